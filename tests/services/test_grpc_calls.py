"""The gRPC service under a plugin written in Python, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asgi_wasm.engines.null import GuestTrap
from asgi_wasm.host import lifecycle
from asgi_wasm.host.effects import GrpcStream
from asgi_wasm.host.ports import NoHostMetrics
from asgi_wasm.host.wire import encode_pairs
from asgi_wasm.services.grpc_calls import GrpcCalls
from asgi_wasm.services.grpc_channel import Listener, address, converse, open_channel
from asgi_wasm.specs import UpstreamSpec
from tests.driving import run, until
from tests.grpc_server import Server, grpc_server
from tests.host.grpc_guest import Guest
from tests.serving import free_port


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Server, GrpcCalls, Guest]]:
    """A server, the service and a guest whose effects go there."""
    async with grpc_server() as server:
        calls = GrpcCalls([UpstreamSpec("auth", server.url)])
        guest = Guest(method=b"Hello", start=calls.start)  # type: ignore[arg-type]
        yield server, calls, guest
        await calls.close()


def test_trap_resets_what_is_under_way() -> None:
    async def main() -> None:
        async with running() as (server, _, guest):
            guest.stream()
            guest.stream()
            assert await until(lambda: [name for name, *_ in guest.seen].count("receive") == 2)

            def trap() -> int:
                raise GuestTrap("on purpose")

            guest.todo = trap
            lifecycle.notify(guest.root, "proxy_on_tick")
            assert await until(lambda: server.cancelled == 2)
            assert [name for name, *_ in guest.seen].count("close") == 0

    run(main)


def test_end_of_one_root_context_is_not_the_others() -> None:
    async def main() -> None:
        async with running() as (server, _, guest):
            other = lifecycle.start_root(guest.vm, guest.spec, b"")
            guest.stream()
            token = guest.stream(other)
            assert await until(lambda: [name for name, *_ in guest.seen].count("receive") == 2)
            lifecycle.shut_down_root(guest.root)
            assert await until(lambda: server.cancelled == 1)
            assert guest.act(lambda: guest.ask("grpc_close", token), other) == 0
            assert await until(lambda: ("close", token, 0) in guest.seen)
            assert server.cancelled == 1

    run(main)


def test_close_resets_what_a_root_that_is_not_done_waits_for() -> None:
    async def main() -> None:
        async with running() as (server, calls, guest):
            guest.done = 0
            guest.stream()
            assert await until(lambda: server.calls)
            lifecycle.shut_down_root(guest.root)
            await asyncio.wait_for(calls.close(), 10)
            assert await until(lambda: server.cancelled == 1)

    run(main)


def test_what_a_root_asks_for_while_it_is_deleted_is_not_begun() -> None:
    async def main() -> None:
        async with running() as (server, calls, guest):
            calls.start(GrpcStream(guest.root, 6, "auth", "/test.Auth/Hello", []))
            guest.stream()
            assert await until(lambda: ("receive", 6, 5) in guest.seen)
            assert len(server.calls) == 1

    run(main)


def test_a_listener_that_fails_resets_the_call() -> None:
    async def messages() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    def fail(_: bytes) -> None:
        raise RuntimeError("a bug")

    async def main() -> None:
        async with grpc_server() as server:
            channel = open_channel(UpstreamSpec("auth", server.url))
            with pytest.raises(RuntimeError, match="a bug"):
                await converse(channel, "/test.Auth/Hello", [], messages(), None, Listener(lambda _: None, fail))
            assert await until(lambda: server.cancelled == 1)
            await channel.close()

    run(main)


class Counted(NoHostMetrics):
    """Keeps how calls ended."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[str, str, str]] = []

    def callout_ended(self, plugin: str, upstream: str, outcome: str, nanoseconds: int) -> None:
        assert nanoseconds > 0
        self.outcomes.append((plugin, upstream, outcome))


@pytest.mark.parametrize(
    ("url", "method", "outcome"),
    [
        ("", b"Check", "response"),
        ("", b"Denied", "response"),
        ("", b"Silent", "timeout"),
        ("http://127.0.0.1:{dead}", b"Check", "connection_failure"),
        ("https://127.0.0.1:1", b"Check", "failure"),
    ],
)
def test_how_a_call_ended_is_counted(url: str, method: bytes, outcome: str) -> None:
    async def main() -> None:
        counted = Counted()
        async with grpc_server() as server:
            where = url.format(dead=free_port()) or server.url
            calls = GrpcCalls([UpstreamSpec("auth", where, verify=False)])
            guest = Guest(method=method, start=calls.start, host_metrics=counted)  # type: ignore[arg-type]
            guest.call(timeout=200 if outcome == "timeout" else 20_000)
            assert await until(lambda: guest.seen)
            await calls.close()
        assert counted.outcomes == [("guest", "auth", outcome)]

    run(main)


@pytest.mark.parametrize(
    ("method", "code", "message"), [("Denied", 7, "not you: ü"), ("Cancelled", 1, "gone"), ("Empty", 0, "")]
)
def test_status_of_a_server_that_ends_before_all_is_sent(method: str, code: int, message: str) -> None:
    async def messages() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 1000
            await asyncio.sleep(0)

    async def main() -> None:
        async with grpc_server() as server:
            channel = open_channel(UpstreamSpec("auth", server.url))
            ignored = Listener(lambda _: None, lambda _: None)
            for _ in range(100):
                status = await converse(channel, f"/test.Auth/{method}", [], messages(), 30.0, ignored)
                assert (status.code, status.message.decode()) == (code, message)
            await channel.close()

    run(main)


class Renamed:
    """A call of a grpcio that keeps the inner one under another name."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Any:
        if name == "_cython_call":
            raise AttributeError(name)
        return getattr(self._call, name)

    def __aiter__(self) -> Any:
        return self._call.__aiter__()


class RenamingChannel:
    """Makes such calls."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def stream_stream(self, path: str) -> Any:
        method = self._channel.stream_stream(path)
        return lambda *arguments, **named: Renamed(method(*arguments, **named))


def test_a_grpcio_with_other_insides_will_do() -> None:
    async def messages() -> AsyncIterator[bytes]:
        yield b"alice"

    async def main() -> None:
        answers: list[bytes] = []
        async with grpc_server() as server:
            channel = open_channel(UpstreamSpec("auth", server.url))
            listener = Listener(lambda _: None, answers.append)
            renaming: Any = RenamingChannel(channel)
            status = await converse(renaming, "/test.Auth/Check", [], messages(), 30.0, listener)
            assert (status.code, len(answers)) == (0, 1)
            await channel.close()

    run(main)


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://[::1]:50051/ignored", "[::1]:50051"), ("http://a", "a:80"), ("HTTPS://a", "a:443")],
)
def test_address(url: str, expected: str) -> None:
    assert address(url) == expected


def test_headers_of_the_settings_replace_the_plugins() -> None:
    async def main() -> None:
        async with grpc_server() as server:
            upstream = UpstreamSpec("auth", server.url, headers=(("Authorization", "settings"), ("host", "auth.test")))
            calls = GrpcCalls([upstream])
            guest = Guest(method=b"Hello", start=calls.start)  # type: ignore[arg-type]
            own = [(b"authorization", b"plugin"), (b"host", b"plugin.test"), (b"x-own", b"1")]
            assert guest.call(metadata=encode_pairs(own))[0] == 0
            assert await until(lambda: bool(server.calls))
            seen = server.calls[0][1]
            assert seen["authorization"] == "settings" and seen["x-own"] == "1" and "host" not in seen
            await calls.close()

    run(main)


def test_stream_that_the_server_ends_leaves_no_task() -> None:
    async def main() -> None:
        async with grpc_server() as server:
            calls = GrpcCalls([UpstreamSpec("auth", server.url)])
            guest = Guest(method=b"Denied", start=calls.start)  # type: ignore[arg-type]
            guest.stream()
            assert await until(lambda: "close" in [name for name, *_ in guest.seen])
            assert await until(lambda: not any("_consume_request_iterator" in repr(t) for t in asyncio.all_tasks()))
            await calls.close()

    run(main)
