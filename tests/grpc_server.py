"""A real gRPC server on a free port of 127.0.0.1, on the running event loop, for as long as an `async with` lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

Method = Callable[[AsyncIterator[bytes], Any, "Server"], AsyncIterator[bytes]]


@dataclass
class Server:
    """What it was asked: ``calls`` are method, metadata and messages. ``cancelled`` counts those the client reset."""

    port: int = 0
    calls: list[tuple[str, dict[str, str | bytes], list[bytes]]] = field(default_factory=list)
    deadlines: list[float | None] = field(default_factory=list)
    cancelled: int = 0
    # Set by a test that lets waiting methods go on.
    go: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


async def _echo(messages: AsyncIterator[bytes], context: Any, server: Server) -> AsyncIterator[bytes]:
    """Each message again, with metadata before and after."""
    await context.send_initial_metadata([("x-realm", "r"), ("x-first-bin", b"\x00\xfe")])
    context.set_trailing_metadata([("x-cost", "3"), ("x-last-bin", b"\xff\x00")])
    async for message in messages:
        yield message


async def _many(messages: AsyncIterator[bytes], context: Any, server: Server) -> AsyncIterator[bytes]:
    """As many messages as the first message says."""
    async for message in messages:
        for index in range(int(message)):
            yield b"%d" % index
        return


async def _large(messages: AsyncIterator[bytes], context: Any, server: Server) -> AsyncIterator[bytes]:
    """One message of as many bytes as the first message says."""
    async for message in messages:
        yield b"x" * int(message)
        return


async def _denied(messages: AsyncIterator[bytes], context: Any, server: Server) -> AsyncIterator[bytes]:
    """An error with a message, before anything else is sent."""
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you: \u00fc", (("x-cost", "1"),))
    yield b""


async def _cancelled(messages: AsyncIterator[bytes], context: Any, server: Server) -> AsyncIterator[bytes]:
    """The status that a client's own cancel has, from the server."""
    await context.abort(grpc.StatusCode.CANCELLED, "gone")
    yield b""


async def _cut(messages: AsyncIterator[bytes], context: Any, server: Server) -> AsyncIterator[bytes]:
    """One message, then an error."""
    yield b"one"
    await context.abort(grpc.StatusCode.DATA_LOSS, "cut")


async def _silent(messages: AsyncIterator[bytes], context: Any, server: Server) -> AsyncIterator[bytes]:
    """Nothing, until the test says go; then one message."""
    await server.go.wait()
    yield b"late"


async def _hello(messages: AsyncIterator[bytes], context: Any, server: Server) -> AsyncIterator[bytes]:
    """One message at once, then it waits for the client to close."""
    yield b"hello"
    async for _message in messages:
        pass
    yield b"bye"


async def _wide(messages: AsyncIterator[bytes], context: Any, server: Server) -> AsyncIterator[bytes]:
    """Metadata of 30 kB."""
    await context.send_initial_metadata([("x-wide", "w" * 30_000)])
    yield b"wide"


async def _empty(messages: AsyncIterator[bytes], context: Any, server: Server) -> AsyncIterator[bytes]:
    """Success without a message."""
    return
    yield b""


METHODS: dict[str, Method] = {
    "/test.Auth/Check": _echo,
    "/test.Auth/Many": _many,
    "/test.Auth/Large": _large,
    "/test.Auth/Denied": _denied,
    "/test.Auth/Cancelled": _cancelled,
    "/test.Auth/Cut": _cut,
    "/test.Auth/Silent": _silent,
    "/test.Auth/Hello": _hello,
    "/test.Auth/Wide": _wide,
    "/test.Auth/Empty": _empty,
}


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, server: Server) -> None:
        self._server = server

    def service(self, details: Any) -> Any:
        method = METHODS.get(details.method)
        if method is None:
            return None
        server = self._server
        messages: list[bytes] = []
        server.calls.append((details.method, dict(details.invocation_metadata), messages))

        async def behaviour(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            server.deadlines.append(context.time_remaining())

            async def kept() -> AsyncIterator[bytes]:
                async for message in requests:
                    messages.append(message)
                    yield message

            try:
                async for answer in method(kept(), context, server):
                    yield answer
            except (asyncio.CancelledError, GeneratorExit):
                server.cancelled += 1
                raise

        return grpc.stream_stream_rpc_method_handler(behaviour)


@asynccontextmanager
async def grpc_server(port: int = 0, credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[Server]:
    """Serves `METHODS`."""
    server = Server()
    # Its own address only: by default two servers may share a port.
    real = grpc.aio.server(handlers=[_Handler(server)], options=[("grpc.so_reuseport", 0)])
    address = f"127.0.0.1:{port}"
    server.port = real.add_insecure_port(address) if credentials is None else real.add_secure_port(address, credentials)
    await real.start()
    try:
        yield server
    finally:
        await real.stop(None)
