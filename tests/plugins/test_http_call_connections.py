"""The connections that HTTP calls are made by."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from asgi_wasm import MissingExtraError
from asgi_wasm.asgi.types import Receive, Scope, Send
from tests.driving import request, until
from tests.plugins.calling import OK, RESET, answer_body, local_answer
from tests.plugins.callouts import conf, http, plugged, said
from tests.serving import free_port
from tests.upstreams import Certificate, hypercorn, raw


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


async def test_connections_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    async with raw(lambda *_: OK) as (port, seen):
        async with plugged(conf(request_headers=[http(), "pause"], answer=["resume 0"]), port) as middleware:
            for _ in range(5):
                assert (await request(middleware)).body == b"app"
        assert len(seen.heads) == 5
        assert seen.connections == 1


async def test_stale_connection_is_not_used_again(caplog: pytest.LogCaptureFixture) -> None:
    async with raw(lambda *_: OK, closes=True) as (port, seen):
        async with plugged(conf(request_headers=[http(), "pause"], answer=["resume 0"]), port) as middleware:
            for _ in range(3):
                assert (await request(middleware)).body == b"app"
                # The end of the connection is in the kernel's buffer then, which is looked into before a call.
                await until(lambda: seen.closed == seen.connections)
        assert seen.connections == 3
    assert len(said(caplog, "answer header :status: 200")) == 3


async def trailing(scope: Scope, receive: Receive, send: Send) -> None:
    """Tells the HTTP version and ends with trailers."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    text = f"{scope['http_version']} {scope['method']} {scope['path']} {sorted(scope['headers'])}".encode()
    trailers = "http.response.trailers" in scope["extensions"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")], "trailers": trailers})
    await send({"type": "http.response.body", "body": text})
    if trailers:
        await send({"type": "http.response.trailers", "headers": [(b"x-t", b"1")]})


@pytest.mark.parametrize("secure", [False, True], ids=["prior-knowledge", "alpn"])
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_http2(caplog: pytest.LogCaptureFixture, tmp_path: Path, http2: bool, secure: bool) -> None:
    certificate = Certificate(tmp_path) if secure else None
    port = free_port()
    url = f"https://127.0.0.1:{port}" if secure else f"http://127.0.0.1:{port}"
    upstream = {"url": url, "http2": http2, "verify": str(certificate.file) if certificate else True}
    more = [(b"connection", b"keep-alive"), (b"x-l", b"caf\xe9"), (b"te", b"trailers")]
    step = http(b"/a?b", method=b"POST", body=b"abc", more=more)

    script = conf(configure=[step])
    async with hypercorn(trailing, port, certificate), plugged(script, upstreams={"up": upstream}):
        await until(lambda: said(caplog, "answer body"))
    lines = said(caplog, "^answer")
    version, method, path, *_ = answer_body(lines).split(b" ")
    assert (version, method, path) == (b"2" if http2 else b"1.1", b"POST", b"/a")
    assert b"(b'x-l', b'caf\\xe9')" in answer_body(lines)
    # Those of HTTP/1.1 are dropped, as Envoy does by default.
    assert lines[0].endswith(" 1" if http2 else " 0")
    assert "answer header x-a: 1" in lines


@pytest.mark.parametrize(
    ("verify", "status"), [(True, 503), (False, 200), ("own", 200)], ids=["unknown-ca", "not-verified", "own-ca"]
)
async def test_certificates(caplog: pytest.LogCaptureFixture, tmp_path: Path, verify: bool | str, status: int) -> None:
    certificate = Certificate(tmp_path)

    async with raw(lambda *_: OK, tls=certificate.context) as (port, _):
        checked = str(certificate.file) if verify == "own" else verify
        upstreams = {"up": {"url": f"https://127.0.0.1:{port}", "verify": checked}}
        async with plugged(conf(configure=[http()]), upstreams=upstreams):
            await until(lambda: said(caplog, "answer body"))
    if status == 503:
        assert said(caplog, "^answer") == local_answer(503, RESET + "remote connection failure")
    else:
        assert f"answer header :status: {status}" in said(caplog)


async def test_tls_to_a_server_without(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    upstreams = {"up": f"https://127.0.0.1:{port}"}
    async with hypercorn(trailing, port), plugged(conf(configure=[http()]), upstreams=upstreams):
        await until(lambda: said(caplog, "answer body"))
    assert said(caplog, "^answer") == local_answer(503, RESET + "remote connection failure")


async def test_more_calls_than_connections_wait_and_more_still_overflow(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at Envoy's circuit breaker: each call beyond costs nothing, and those that wait have their turn."""
    monkeypatch.setattr("asgi_wasm.services.callouts.upstreams.MAX_CONNECTIONS", 2)
    monkeypatch.setattr("asgi_wasm.services.callouts.upstreams.MAX_PENDING", 1)

    async with raw(lambda *_: OK) as (port, seen):
        async with plugged(conf(configure=[http()] * 5), port):
            await until(lambda: len(said(caplog, "^answer [0-9]")) == 5)
        assert (len(seen.heads), seen.connections) == (3, 2)
    overflow = b"upstream connect error or disconnect/reset before headers. reset reason: overflow"
    assert said(caplog, "^answer body").count(f"answer body {overflow.hex()}") == 2


async def test_http2_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h2", None)

    with pytest.raises(MissingExtraError, match="upstream 'up' wants http2: pip install 'asgi-wasm\\[http2\\]'"):
        async with plugged("", upstreams={"up": {"url": "http://127.0.0.1:9", "http2": True}}):
            raise AssertionError("it started")
