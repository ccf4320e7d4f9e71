"""`proxy_http_call` by a plugin from the Rust SDK, against a real server on a free port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Receive, Scope, Send
from tests.driving import answering, leave_at_once, request, until
from tests.plugins.conftest import PLUGINS
from tests.serving import free_port
from tests.upstreams import raw, upstream

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nalice"


@asynccontextmanager
async def guarded(
    port: int, app: Any = None, limits: Mapping[str, int] | None = None, **conf: Any
) -> AsyncIterator[WasmMiddleware]:
    # Of itself it waits for a second.
    conf = {"timeout_ms": 60_000, **conf}
    settings = {
        "plugins": [{"name": "http_auth", "file": PLUGINS / "http_auth/rust.wasm", "conf": conf}],
        "upstreams": {"auth": f"http://127.0.0.1:{port}"},
        "limits": limits or {},
    }
    middleware = WasmMiddleware(app or answering(b"app"), settings=settings)
    await middleware.start()
    try:
        yield middleware
    finally:
        await middleware.stop()


async def test_asks_and_lets_pass() -> None:
    asked: list[tuple[bytes, dict[bytes, bytes], bytes]] = []
    seen: list[list[tuple[bytes, bytes]]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["headers"])
        await answering(b"app")(scope, receive, send)

    def answer(*what: Any) -> bytes:
        asked.append(what)
        return OK

    async with upstream(answer) as port, guarded(port, app, path="/check?a=%2F") as middleware:
        response = await request(middleware, "POST", headers=[(b"x-user", b"alice")], body=[b"kept ", b"back"])
    assert (response.status, response.body) == (200, b"app")
    ((line, headers, body),) = asked
    assert (line, body) == (b"POST /check?a=%2F HTTP/1.1", b"alice")
    # Nothing of httpx's own is added to what the plugin asked for.
    assert headers == {b"host": b"auth.test", b"x-user": b"alice", b"content-length": b"5"}
    assert (b"x-auth", b"alice") in seen[0]


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n", b"401"),
        (b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n", b"302"),
        (None, b"504"),
    ],
    ids=["denied", "redirects-are-not-followed", "timeout"],
)
async def test_denies(reply: bytes | None, status: bytes) -> None:
    timeout_ms = 60_000 if reply else 200
    async with upstream(lambda *_: reply) as port, guarded(port, timeout_ms=timeout_ms) as middleware:
        response = await request(middleware)
    assert (response.status, response.body) == (403, b"denied")
    assert response.header(b"x-auth-status") == status


async def test_connection_refused_is_a_503_answer() -> None:
    async with guarded(free_port()) as middleware:
        assert (await request(middleware)).header(b"x-auth-status") == b"503"


async def test_broken_answer_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    cut = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut"

    async with upstream(lambda *_: cut) as port, guarded(port) as middleware:
        response = await request(middleware)
    assert (response.status, response.body) == (502, b"no answer")
    assert "plugin 'http_auth': HTTP call to 'auth'" in caplog.text


async def test_unknown_upstream_is_a_bad_argument(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with guarded(free_port(), upstream="other") as middleware:
            assert (await request(middleware)).status == 500
    assert "http_auth: cannot ask: BadArgument" in caplog.text
    told = "plugin 'http_auth': it calls the upstream 'other', which the settings do not name (they name: auth)"
    assert caplog.text.count(told) == 1


async def test_call_of_the_root_context_while_it_is_configured(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with upstream(lambda *_: OK) as port, guarded(port, fetch="/keys"):
            await until(lambda: "http_auth: fetched 4 headers, 5 bytes" in caplog.text)


async def test_many_at_once_do_not_wait_for_one_another() -> None:
    """While one request waits for a slow answer, others are served."""

    def answer(line: bytes, headers: dict[bytes, bytes], body: bytes) -> bytes | None:
        return None if body == b"slow" else OK

    async with raw(answer, closes=True) as (port, seen), guarded(port, timeout_ms=60_000) as middleware:
        slow = asyncio.ensure_future(request(middleware, headers=[(b"x-user", b"slow")]))
        fast = await asyncio.gather(*(request(middleware, headers=[(b"x-user", b"u")]) for _ in range(50)))
        assert [response.body for response in fast] == [b"app"] * 50
        assert not slow.done()
        # The service hangs up.
        seen.over.set()
        assert (await slow).header(b"x-auth-status") == b"503"


async def test_client_gone_while_paused_and_the_answer_comes_later(caplog: pytest.LogCaptureFixture) -> None:

    async with upstream(lambda *_: OK) as port, guarded(port) as middleware:
        await leave_at_once(middleware)
        # The answer finds no stream any more, and the VM lives on.
        assert (await request(middleware)).body == b"app"
    assert "VM failed" not in caplog.text


async def test_pause_that_nothing_ends(caplog: pytest.LogCaptureFixture) -> None:
    async with upstream(lambda *_: None) as port:
        settings = {
            "plugins": [{"name": "stuck", "file": PLUGINS / "http_auth/rust.wasm", "conf": {"timeout_ms": 60_000}}],
            "upstreams": {"auth": f"http://127.0.0.1:{port}"},
            "pause_timeout": 0.1,
        }
        middleware = WasmMiddleware(answering(b"app"), settings=settings)
        await middleware.start()
        response = await request(middleware)
        await middleware.stop()
        assert response.status == 504
    assert "plugin 'stuck': paused a stream for 0.1 s: it is answered 504" in caplog.text
