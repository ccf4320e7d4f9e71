"""`proxy_grpc_call` and `proxy_grpc_stream` by a plugin from the Rust SDK, against a real server on a free port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Receive, Scope, Send
from tests.driving import Response, answering, leave_at_once, request, until
from tests.grpc_server import grpc_server
from tests.plugins.conftest import PLUGINS
from tests.serving import free_port

ALICE = [(b"x-user", b"alice")]


@asynccontextmanager
async def guarded(
    url: str, app: Any = None, settings: dict[str, Any] | None = None, **conf: Any
) -> AsyncIterator[WasmMiddleware]:
    """The plugin before an app; ``settings`` are further ones of the upstream."""
    # Of itself it waits for a second.
    conf = {"timeout_ms": 60_000, **conf}
    whole = {
        "plugins": [{"name": "grpc_auth", "file": PLUGINS / "grpc_auth/rust.wasm", "conf": conf}],
        "upstreams": {"auth": {"url": url, **(settings or {})}},
    }
    middleware = WasmMiddleware(app or answering(b"app"), settings=whole)
    await middleware.start()
    try:
        yield middleware
    finally:
        await middleware.stop()


@pytest.mark.parametrize("stream", [False, True], ids=["call", "stream"])
async def test_asks_and_lets_pass(stream: bool) -> None:
    seen: list[list[tuple[bytes, bytes]]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["headers"])
        await answering(b"app")(scope, receive, send)

    async with grpc_server() as server, guarded(server.url, app, stream=stream) as middleware:
        server, response = server, await request(middleware, "POST", headers=ALICE, body=[b"kept ", b"back"])
    assert (response.status, response.body) == (200, b"app")
    assert (b"x-auth", b"alice") in seen[0]
    ((method, metadata, messages),) = server.calls
    assert (method, messages) == ("/test.Auth/Check", [b"alice"])
    assert metadata == {"x-user": "alice", "x-raw-bin": b"\x00\xff"}


@pytest.mark.parametrize(
    ("conf", "status", "reason"),
    [
        ({"method": "Denied"}, b"7", "denied: status 7, 7 not you: %C3%BC"),
        ({"method": "Denied", "stream": True}, b"7", "denied: status 7, 7 not you: %C3%BC"),
        ({"method": "Cut"}, b"15", "denied: status 15, 15 cut"),
        ({"method": "Nope"}, b"12", "denied: status 12, 12 Method not found!"),
        ({"method": "Empty"}, b"13", "denied: status 13, 13 "),
        ({"method": "Silent", "timeout_ms": 200}, b"14", "denied: status 14, 14 upstream request timeout"),
    ],
    ids=["error", "error-of-a-stream", "error-after-a-message", "no-method", "no-message", "timeout"],
)
async def test_denies(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, conf: dict[str, Any], status: bytes, reason: str
) -> None:
    # A server that knows when the client's time is over ends the call at the same moment: either may be first.
    monkeypatch.setattr("asgi_wasm.services.callouts.grpc.fields._grpc_timeout", lambda _: b"1M")
    with caplog.at_level(logging.INFO):
        async with grpc_server() as server, guarded(server.url, **conf) as middleware:
            response = await request(middleware)
    assert (response.status, response.body) == (403, b"denied")
    assert response.header(b"x-auth-status") == status
    assert f"grpc_auth: {reason}" in caplog.text


@pytest.mark.parametrize("stream", [False, True], ids=["call", "stream"])
async def test_connection_refused(caplog: pytest.LogCaptureFixture, stream: bool) -> None:
    with caplog.at_level(logging.INFO):
        async with guarded(f"http://127.0.0.1:{free_port()}", stream=stream) as middleware:
            assert (await request(middleware)).header(b"x-auth-status") == b"14"
    assert "failed to connect" in caplog.text


async def test_service_that_comes_back_is_called_again() -> None:
    async with grpc_server() as server:
        port, url = server.port, server.url
    async with guarded(url) as middleware:
        assert (await request(middleware)).status == 403
        async with grpc_server(port):
            # By the first call, though a try has just failed.
            assert (await request(middleware)).status == 200


async def test_metadata_of_a_stream(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with grpc_server() as server, guarded(server.url, stream=True) as middleware:
            assert (await request(middleware)).status == 200
    assert "grpc_auth: realm r" in caplog.text
    assert "grpc_auth: cost 3" in caplog.text


async def test_many_messages_of_a_stream() -> None:
    seen: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope["headers"])[b"x-auth"])
        await answering(b"app")(scope, receive, send)

    async with grpc_server() as server, guarded(server.url, app, method="Many", stream=True) as middleware:
        await request(middleware, headers=[(b"x-user", b"500")])
    assert seen == [b",".join(b"%d" % index for index in range(500))]


async def test_message_over_the_limit(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> tuple[Response, Response]:
        limit = {"message_limit": 1000}
        async with grpc_server() as server, guarded(server.url, settings=limit, method="Large") as middleware:
            small = await request(middleware, headers=[(b"x-user", b"1000")])
            return small, await request(middleware, headers=[(b"x-user", b"1001")])

    with caplog.at_level(logging.INFO):
        small, large = await main()
    assert (small.status, large.header(b"x-auth-status")) == (200, b"8")
    assert "larger than max (1001 vs. 1000)" in caplog.text


@pytest.mark.parametrize("stream", [False, True], ids=["call", "stream"])
async def test_unknown_upstream(caplog: pytest.LogCaptureFixture, stream: bool) -> None:
    with caplog.at_level(logging.INFO):
        async with guarded("http://127.0.0.1:1", upstream="other", stream=stream) as middleware:
            assert (await request(middleware)).status == 500
    assert "grpc_auth: cannot ask: ParseFailure" in caplog.text


async def test_call_of_the_root_context_while_it_is_configured(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with grpc_server() as server, guarded(server.url, fetch="Check"):
            assert await until(lambda: "grpc_auth: fetched 0 bytes, status 0" in caplog.text)


async def test_many_at_once_do_not_wait_for_one_another() -> None:
    async with (
        grpc_server() as server,
        guarded(server.url, timeout_ms=60_000) as middleware,
        guarded(server.url, method="Silent", timeout_ms=60_000) as waiting,
    ):
        slow = asyncio.ensure_future(request(waiting))
        fast = await asyncio.gather(*(request(middleware, headers=ALICE) for _ in range(100)))
        assert [response.body for response in fast] == [b"app"] * 100
        assert not slow.done()
        server.go.set()
        assert (await slow).body == b"app"


@pytest.mark.parametrize("stream", [False, True], ids=["call", "stream"])
async def test_client_gone_before_the_answer(caplog: pytest.LogCaptureFixture, stream: bool) -> None:
    async with grpc_server() as server, guarded(server.url, method="Silent", stream=stream) as middleware:
        await leave_at_once(middleware)
        server.go.set()
        # The answer finds no stream any more, and the VM lives on.
        assert (await request(middleware)).body == b"app"
    assert "VM failed" not in caplog.text


@pytest.mark.parametrize("how", ["disconnect", "cancelled"])
@pytest.mark.parametrize("stream", [False, True], ids=["call", "stream"])
async def test_client_that_leaves_ends_its_calls_at_once(
    caplog: pytest.LogCaptureFixture, stream: bool, how: str
) -> None:
    async with (
        grpc_server() as server,
        guarded(server.url, method="Silent", stream=stream, timeout_ms=60_000) as middleware,
    ):
        asked = [asyncio.ensure_future(request(middleware, stays=how != "disconnect")) for _ in range(20)]
        if how == "cancelled":
            assert await until(lambda: len(server.calls) == 20)
            for each in asked:
                each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        # The server may not have looked at those yet that were begun and ended together.
        assert await until(lambda: server.cancelled == len(server.calls))
        server.go.set()
        assert (await request(middleware, headers=ALICE)).body == b"app"
    assert "VM failed" not in caplog.text


@pytest.mark.parametrize("stream", [False, True], ids=["call", "stream"])
async def test_stop_while_pending(caplog: pytest.LogCaptureFixture, stream: bool) -> None:
    with caplog.at_level(logging.INFO):
        async with grpc_server() as server:
            async with guarded(server.url, method="Silent", stream=stream, timeout_ms=60_000) as middleware:
                pending = asyncio.ensure_future(request(middleware))
                assert await until(lambda: server.calls)
            assert await until(lambda: server.cancelled == 1)
            # Not by the answer of the call, which nobody gets.
            assert (await pending).status == 503
    assert "denied" not in caplog.text
    assert "Task" not in caplog.text
