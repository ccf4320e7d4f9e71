"""The gRPC service under a plugin written in Python, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from asgi_wasm.engines.null import GuestTrap
from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.host.effects import GrpcStream
from asgi_wasm.host.host_metrics import NoHostMetrics
from asgi_wasm.host.vm import delivery, lifecycle
from asgi_wasm.host.vm.contexts import RootContext
from asgi_wasm.services.callouts.grpc.calls import GrpcCalls
from asgi_wasm.services.callouts.grpc.channel import address
from asgi_wasm.specs import UpstreamSpec
from tests.driving import until
from tests.grpc_server import Server, grpc_server
from tests.host.grpc_guest import Guest, carried_out_by
from tests.serving import free_port


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Server, GrpcCalls, Guest]]:
    """A server, the service and a guest whose effects go there."""
    async with grpc_server() as server:
        calls = GrpcCalls([UpstreamSpec("auth", server.url)])
        guest = Guest(method=b"Hello", start=carried_out_by(calls))
        yield server, calls, guest
        await calls.close()


async def test_trap_resets_what_is_under_way() -> None:
    async with running() as (server, _, guest):
        guest.stream()
        guest.stream()
        assert await until(lambda: [name for name, *_ in guest.seen].count("receive") == 2)

        def trap() -> int:
            raise GuestTrap("on purpose")

        guest.todo = trap
        guest.root.notify("proxy_on_tick")
        assert await until(lambda: server.cancelled == 2)
        assert [name for name, *_ in guest.seen].count("close") == 0


async def test_end_of_one_root_context_is_not_the_others() -> None:
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


async def test_close_resets_what_a_root_that_is_not_done_waits_for() -> None:
    async with running() as (server, calls, guest):
        guest.done = 0
        guest.stream()
        assert await until(lambda: server.calls)
        lifecycle.shut_down_root(guest.root)
        await asyncio.wait_for(calls.close(), 60)
        assert await until(lambda: server.cancelled == 1)


async def test_what_a_root_asks_for_while_it_is_deleted_is_not_begun() -> None:
    async with running() as (server, calls, guest):
        calls.start(GrpcStream(guest.root, 6, "auth", "/test.Auth/Hello", []))
        guest.stream()
        assert await until(lambda: ("receive", 6, 5) in guest.seen)
        assert len(server.calls) == 1


async def test_a_bug_in_a_delivery_ends_that_stream_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    deliver = delivery.deliver_grpc_message

    def fail(root: RootContext, token: int, message: bytes) -> None:
        if token == 6:
            raise RuntimeError("a bug")
        deliver(root, token, message)

    monkeypatch.setattr(delivery, "deliver_grpc_message", fail)

    async with running() as (server, _, guest):
        guest.stream()
        guest.stream()
        assert await until(lambda: server.cancelled == 1)
        assert await until(lambda: ("receive", 10, 5) in guest.seen)
    assert "gRPC /test.Auth/Hello of 'auth' by plugin 'guest'" in caplog.text


class Counted(NoHostMetrics):
    """Keeps how calls ended."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[str, str, str]] = []

    def callout_ended(self, plugin: str, upstream: str, outcome: str, seconds: float) -> None:
        assert 0 < seconds < 60
        self.outcomes.append((plugin, upstream, outcome))


@pytest.mark.parametrize(
    ("url", "method", "outcome"),
    [
        ("", b"Check", "response"),
        ("", b"Denied", "response"),
        ("", b"Silent", "timeout"),
        ("http://127.0.0.1:{dead}", b"Check", "connection_failure"),
        ("https://127.0.0.1:1", b"Check", "connection_failure"),
    ],
)
async def test_how_a_call_ended_is_counted(
    monkeypatch: pytest.MonkeyPatch, url: str, method: bytes, outcome: str
) -> None:
    # A server that knows when the client's time is over ends the call at the same moment: either may be first.
    monkeypatch.setattr("asgi_wasm.services.callouts.grpc.fields._grpc_timeout", lambda _: b"1M")
    counted = Counted()
    async with grpc_server() as server:
        where = url.format(dead=free_port()) or server.url
        calls = GrpcCalls([UpstreamSpec("auth", where, verify=False)])
        guest = Guest(method=method, start=carried_out_by(calls), host_metrics=counted)
        guest.call(timeout=200 if outcome == "timeout" else 20_000)
        assert await until(lambda: guest.seen)
        await calls.close()
    assert counted.outcomes == [("guest", "auth", outcome)]


@pytest.mark.parametrize(("method", "code"), [("Denied", 7), ("Cancelled", 1), ("Empty", 0)])
async def test_status_of_a_server_that_ends_before_all_is_sent(method: str, code: int) -> None:
    async with grpc_server() as server:
        calls = GrpcCalls([UpstreamSpec("auth", server.url)])
        guest = Guest(method=method.encode(), start=carried_out_by(calls))
        for _ in range(50):
            token = guest.stream()
            for _ in range(5):
                guest.send(token, b"x" * 100_000)
                await asyncio.sleep(0)
            assert await until(lambda token=token: ("close", token, code) in guest.seen)  # type: ignore[misc]
        await calls.close()
        assert guest.root.grpc_tokens.unsent == 0


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://[::1]:50051/ignored", "[::1]:50051"), ("http://a", "a:80"), ("HTTPS://a", "a:443")],
)
def test_address(url: str, expected: str) -> None:
    assert address(url) == expected


async def test_headers_of_the_settings_replace_the_plugins() -> None:
    async with grpc_server() as server:
        upstream = UpstreamSpec("auth", server.url, headers=(("Authorization", "settings"), ("host", "auth.test")))
        calls = GrpcCalls([upstream])
        guest = Guest(method=b"Hello", start=carried_out_by(calls))
        own = [(b"authorization", b"plugin"), (b"host", b"plugin.test"), (b"x-own", b"1")]
        assert guest.call(metadata=encode_pairs(own))[0] == 0
        assert await until(lambda: bool(server.calls))
        seen = server.calls[0][1]
        assert seen["authorization"] == "settings" and seen["x-own"] == "1" and "host" not in seen
        await calls.close()
