"""What a gRPC call costs this process, beside the same call by grpcio: a hundred at once, to a server in it."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from asgi_wasm.services.callouts.grpc.calls import GrpcCalls
from asgi_wasm.specs import UpstreamSpec
from tests.broken_grpc_server import BrokenServer, broken_grpc_server
from tests.extras import why_not
from tests.host.grpc_guest import Guest

_AT_ONCE = 100


async def measure(rounds: int, times: int = 5) -> dict[str, float]:
    """Name to microseconds of processor time per call; the server's share, which is the same for all, is in it."""
    found: dict[str, list[float]] = {}
    async with broken_grpc_server() as server, AsyncExitStack() as stack:
        ways = {"a plugin's gRPC call": _ours(server, stack)}
        if not why_not("grpc"):
            ways["grpcio"] = _grpcio(server, stack)
        for name, hundred in ways.items():
            await hundred()
            found[name] = [await _time(hundred, times) for _ in range(rounds)]
    return {name: statistics.median(values) for name, values in found.items()}


def _ours(server: BrokenServer, stack: AsyncExitStack) -> Callable[[], Awaitable[object]]:
    calls = GrpcCalls([UpstreamSpec("auth", server.url)])
    stack.push_async_callback(calls.close)
    guest = Guest(start=calls.start, method=b"ok")  # type: ignore[arg-type]

    async def hundred() -> None:
        guest.seen.clear()
        for _ in range(_AT_ONCE):
            guest.call()
        while len(guest.seen) < _AT_ONCE:  # noqa: ASYNC110  # a plugin sets no event
            await asyncio.sleep(0)

    return hundred


def _grpcio(server: BrokenServer, stack: AsyncExitStack) -> Callable[[], Awaitable[object]]:
    import grpc.aio

    channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
    stack.push_async_callback(channel.close)
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/t/ok")

    async def hundred() -> None:
        await asyncio.gather(*(call(b"msg") for _ in range(_AT_ONCE)))

    return hundred


async def _time(hundred: Callable[[], Awaitable[object]], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        await hundred()
    return (time.process_time() - began) / times / _AT_ONCE * 1e6
