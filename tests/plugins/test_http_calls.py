"""`proxy_http_call`, word by word: what goes out, what comes back, and what comes of it when something breaks.

The answers to what breaks are those that the real Envoy gave to the same plugin.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from asgi_wasm import MissingExtraError, PluginStartError
from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.host.effects import HttpCall
from asgi_wasm.services.callouts.upstreams import Upstream
from tests.driving import request, until
from tests.plugins.callouts import conf, http, plugged, raw_http, said
from tests.plugins.conftest import PLUGINS
from tests.serving import free_port
from tests.upstreams import Certificate, hypercorn, raw

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
RESET = "upstream connect error or disconnect/reset before headers. reset reason: "


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def answer_body(lines: Sequence[str]) -> bytes:
    (body,) = [line for line in lines if line.startswith("answer body ")]
    return bytes.fromhex(body.removeprefix("answer body "))


async def call_once(
    caplog: pytest.LogCaptureFixture, step: str, reply: bytes | None = OK, **more: Any
) -> tuple[list[str], bytes]:
    """One call while the plugin is configured: its lines, and the bytes that the server saw."""
    async with raw(lambda *_: reply, closes=True) as (port, seen), plugged(conf(configure=[step]), port, **more):
        await until(lambda: said(caplog, "answer status"))
        sent = b"".join(seen.heads + seen.bodies)
    return said(caplog, "^answer"), sent


# --- what goes out


@pytest.mark.parametrize(
    ("step", "sent"),
    [
        (http(b"/a/../b%2F?x=%20&y"), b"GET /a/../b%2F?x=%20&y HTTP/1.1\r\nhost: auth.test\r\n\r\n"),
        (http(b"*", method=b"OPTIONS"), b"OPTIONS * HTTP/1.1\r\nhost: auth.test\r\ncontent-length: 0\r\n\r\n"),
        (http(method=b"get"), b"get / HTTP/1.1\r\nhost: auth.test\r\ncontent-length: 0\r\n\r\n"),
        (http(method=b"DELETE"), b"DELETE / HTTP/1.1\r\nhost: auth.test\r\n\r\n"),
        (http(method=b"BREW"), b"BREW / HTTP/1.1\r\nhost: auth.test\r\ncontent-length: 0\r\n\r\n"),
        (
            http(method=b"POST", body=b"\0\xff"),
            b"POST / HTTP/1.1\r\nhost: auth.test\r\ncontent-length: 2\r\n\r\n\0\xff",
        ),
        (http(body=b"abc"), b"GET / HTTP/1.1\r\nhost: auth.test\r\ncontent-length: 3\r\n\r\nabc"),
        (
            http(more=[(b"Content-Length", b"99"), (b"transfer-encoding", b"chunked")], body=b"abc"),
            b"GET / HTTP/1.1\r\nhost: auth.test\r\ncontent-length: 3\r\n\r\nabc",
        ),
        (
            http(more=[(b"X-Up", b" v "), (b"x-d", b"1"), (b"x-d", b"2"), (b"x-l", b"caf\xe9"), (b"x-e", b"")]),
            b"GET / HTTP/1.1\r\nhost: auth.test\r\nx-up: v\r\nx-d: 1\r\nx-d: 2\r\nx-l: caf\xe9\r\nx-e: \r\n\r\n",
        ),
        (
            http(more=[(b":scheme", b"https"), (b":status", b"200"), (b"", b"v")]),
            b"GET / HTTP/1.1\r\nhost: auth.test\r\n\r\n",
        ),
        (http(more=[(b"te", b"trailers")]), b"GET / HTTP/1.1\r\nhost: auth.test\r\nte: trailers\r\n\r\n"),
        (http(more=[(b"host", b"b.test")]), b"GET / HTTP/1.1\r\nhost: auth.test,b.test\r\n\r\n"),
        (
            raw_http(encode_pairs([(b":method", b"GET"), (b":path", b"/"), (b"host", b"only.test")])),
            b"GET / HTTP/1.1\r\nhost: only.test\r\n\r\n",
        ),
        (
            http(body=b"ab", trailers=[(b"x-t", b"1")]),
            b"GET / HTTP/1.1\r\nhost: auth.test\r\ncontent-length: 2\r\n\r\nab",
        ),
    ],
    ids=[
        "path-as-it-is",
        "star",
        "lower-case-method",
        "delete",
        "unknown-method",
        "binary-body",
        "get-with-body",
        "length-is-the-body's",
        "headers-as-they-are",
        "pseudo-headers",
        "te",
        "host-is-the-authority",
        "host-alone",
        "trailers-are-not-sent",
    ],
)
async def test_sends_what_the_plugin_wrote(caplog: pytest.LogCaptureFixture, step: str, sent: bytes) -> None:
    lines, seen = await call_once(caplog, step)
    assert seen == sent
    assert lines[:2] == ["answer 4 2 2 0", "answer status 0 "]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (http(more=[(b"x-bad", b"a\r\nb: c")]), "invalid header value for: x-bad"),
        (http(more=[(b"x-bad", b"a\0")]), "invalid header value for: x-bad"),
        (http(more=[(b"x bad", b"a")]), "invalid header name: x bad"),
        (http(authority=b"a\nb"), "invalid header value for: host"),
        (http(method=b"CONNECT"), "missing required header: :protocol"),
        (http(method=b"GET /x HTTP/1.1\r\n"), "invalid header value for: :method"),
        (http(method=b""), "invalid header value for: :method"),
        (http(b""), "invalid header value for: :path"),
        (http(b"/a b"), "invalid header value for: :path"),
        (http(b"/\r\nx: y"), "invalid header value for: :path"),
        (http(b"/\xe9"), "invalid header value for: :path"),
    ],
)
async def test_what_http_cannot_carry_is_a_503_answer(caplog: pytest.LogCaptureFixture, step: str, words: str) -> None:
    lines, seen = await call_once(caplog, step)
    assert seen == b""
    assert lines[:5] == [
        f"answer 4 3 {len(words)} 0",
        "answer status 0 ",
        "answer header :status: 503",
        f"answer header content-length: {len(words)}",
        "answer header content-type: text/plain",
    ]
    assert answer_body(lines) == words.encode()


async def test_headers_of_the_settings_replace_the_plugins(caplog: pytest.LogCaptureFixture) -> None:
    step = http(more=[(b"authorization", b"forged"), (b"x-kept", b"1")])
    headers = {"Authorization": "Bearer t", "Host": "real.test", "x-new": "caf\xe9"}
    async with raw(lambda *_: OK) as (port, seen):
        upstreams = {"up": {"url": f"http://127.0.0.1:{port}/", "headers": headers}}
        async with plugged(conf(configure=[step]), upstreams=upstreams):
            await until(lambda: said(caplog, "answer"))
        assert seen.heads[0] == (
            b"GET / HTTP/1.1\r\nhost: real.test\r\nx-kept: 1\r\nauthorization: Bearer t\r\nx-new: caf\xe9\r\n\r\n"
        )


async def test_environment_has_no_say(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")
    lines, _ = await call_once(caplog, http())
    assert "answer header :status: 200" in lines


@pytest.mark.parametrize(
    "step",
    [
        http(upstream="nobody"),
        *(
            raw_http(
                encode_pairs(
                    [
                        pair
                        for pair in ((b":method", b"GET"), (b":path", b"/"), (b":authority", b"a"))
                        if pair[0] != name
                    ]
                )
            )
            for name in (b":method", b":path", b":authority")
        ),
        raw_http(b""),
        raw_http(b"\xff\xff"),
        http(timeout=0xFFFFFFFF),
    ],
    ids=["upstream", "no-method", "no-path", "no-authority", "no-headers", "malformed", "negative-timeout"],
)
async def test_bad_argument(caplog: pytest.LogCaptureFixture, step: str) -> None:
    async with raw(lambda *_: OK) as (port, seen), plugged(conf(configure=[step]), port):
        await asyncio.sleep(0.05)
        assert seen.heads == []
    (line,) = said(caplog, "configure http")
    assert line.endswith("= 2 token 0")


# --- what comes back


@pytest.mark.parametrize(
    ("reply", "lines", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\nX-A: 1\r\nset-cookie: a\r\nSet-Cookie: b\r\nconnection: close\r\n"
            b"content-length: 0\r\n\r\n",
            [
                "answer 4 6 0 0",
                ":status: 200",
                "x-a: 1",
                "set-cookie: a",
                "set-cookie: b",
                "connection: close",
                "content-length: 0",
            ],
            b"",
        ),
        (
            b"HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 0\r\n\r\n",
            ["answer 4 3 0 0", ":status: 302", "location: /there", "content-length: 0"],
            b"",
        ),
        (b"HTTP/1.1 204 None\r\n\r\n", ["answer 4 1 0 0", ":status: 204"], b""),
        (
            b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            ["answer 4 2 0 0", ":status: 200", "content-length: 0"],
            b"",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", ["answer 4 1 13 0", ":status: 200"], b"until the end"),
        # Envoy drops trailers of HTTP/1.1 too, unless `enable_trailers` asks for them.
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-t: 1\r\n\r\n",
            ["answer 4 2 2 0", ":status: 200", "transfer-encoding: chunked"],
            b"ok",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 23\r\n\r\n" + gzip.compress(b"abc", mtime=0),
            ["answer 4 3 23 0", ":status: 200", "content-encoding: gzip", "content-length: 23"],
            gzip.compress(b"abc", mtime=0),
        ),
        (b"HTTP/1.1 200 OK\r\nx-l: caf\xe9\r\ncontent-length: 2\r\n\r\n\0\xff", None, b"\0\xff"),
    ],
    ids=["order", "no-redirects", "204", "early-hints", "until-close", "trailers", "not-decoded", "latin-1"],
)
async def test_answer(caplog: pytest.LogCaptureFixture, reply: bytes, lines: list[str] | None, body: bytes) -> None:
    got, _ = await call_once(caplog, http(), reply)
    if lines is not None:
        assert [
            line.removeprefix("answer header ") for line in got if "answer body" not in line and "status 0" not in line
        ] == lines
    assert (answer_body(got) if body else b"") == body


async def test_answer_to_head_has_no_body(caplog: pytest.LogCaptureFixture) -> None:
    lines, _ = await call_once(caplog, http(method=b"HEAD"), b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n")
    assert lines == [
        "answer 4 2 0 0",
        "answer status 0 ",
        "answer header :status: 200",
        "answer header content-length: 99",
    ]


def local_answer(status: int, words: str) -> list[str]:
    return [
        f"answer 4 3 {len(words)} 0",
        "answer status 0 ",
        f"answer header :status: {status}",
        f"answer header content-length: {len(words)}",
        "answer header content-type: text/plain",
        f"answer body {words.encode().hex()}",
    ]


@pytest.mark.parametrize(
    ("reply", "status", "words"),
    [
        (b"", 503, RESET + "connection termination"),
        (b"nonsense\r\n\r\n", 502, RESET + "protocol error"),
        (b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", 502, RESET + "protocol error"),
        (None, 504, "upstream request timeout"),
    ],
    ids=["hung-up", "no-http", "bad-head", "timeout"],
)
async def test_before_headers_all_is_an_answer(
    caplog: pytest.LogCaptureFixture, reply: bytes | None, status: int, words: str
) -> None:
    lines, _ = await call_once(caplog, http(timeout=300 if reply is None else 60_000), reply)
    assert lines == local_answer(status, words)


async def test_connection_refused(caplog: pytest.LogCaptureFixture) -> None:
    lines, _ = await call_once(caplog, http(), upstreams={"up": f"http://127.0.0.1:{free_port()}"})
    assert lines == local_answer(503, RESET + "remote connection failure")


async def test_timeout_of_the_settings_bounds_what_the_plugin_asks(caplog: pytest.LogCaptureFixture) -> None:
    async with raw(lambda *_: None) as (port, _):
        upstreams = {"up": {"url": f"http://127.0.0.1:{port}", "timeout": 0.1}}
        steps = [http(), http(timeout=60_000)]
        async with plugged(conf(configure=steps), upstreams=upstreams):
            await until(lambda: len(said(caplog, "answer header :status: 504")) == 2)


@pytest.mark.parametrize(
    ("reply", "limit"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut", 100),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n" + b"x" * 101, 100),
    ],
    ids=["cut", "too-large"],
)
async def test_after_headers_all_is_a_failure(caplog: pytest.LogCaptureFixture, reply: bytes, limit: int) -> None:
    lines, _ = await call_once(caplog, http(), reply, settings={"limits": {"call_response": limit}})
    assert lines == ["answer 4 0 0 0", "answer status 11 reset"]
    assert "plugin 'callouts': HTTP call to 'up'" in caplog.text


async def test_timeout_in_the_body_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    # Keeps the connection, and says no more.
    cut, script = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut", conf(configure=[http(timeout=200)])
    async with raw(lambda *_: cut) as (port, _), plugged(script, port):
        await until(lambda: said(caplog, "answer"))
    assert said(caplog, "^answer") == ["answer 4 0 0 0", "answer status 11 reset"]


async def test_status_of_a_failure_stays_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    """Envoy never resets the code, and clears the message."""

    def answer(line: bytes, headers: dict[bytes, bytes], body: bytes) -> bytes:
        return OK if b"/ok" in line else b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"

    script = conf(configure=[http(b"/cut")], answer=[http(b"/ok")])
    async with raw(answer, closes=True) as (port, _), plugged(script, port):
        await until(lambda: len(said(caplog, "answer status")) >= 2)
    assert said(caplog, "answer status")[:2] == ["answer status 11 reset", "answer status 11 "]


# --- connections


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
                await asyncio.sleep(0.05)
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


# --- from everywhere


@pytest.mark.parametrize(
    "callback",
    [
        "configure",
        "request_headers",
        "request_body",
        "response_headers",
        "response_body",
        "log",
        "done",
        "answer",
        "tick",
        "queue",
    ],
)
async def test_from_every_callback(caplog: pytest.LogCaptureFixture, callback: str) -> None:
    steps: dict[str, list[str]] = {
        "configure": ["register 71"],
        "request_headers": ["enqueue 61", "period 5"],
        "queue": ["dequeue"],
        "tick": ["period 0"],
        "answer": [],
    }
    if callback == "answer":
        steps["tick"].append(http(b"/first"))
    steps.setdefault(callback, []).append(http(b"/" + callback.encode()))

    async with raw(lambda *_: OK) as (port, seen), plugged(conf(**steps), port) as middleware:
        response = await request(middleware, "POST", body=[b"x"])
        assert response.body == b"app"
        await until(lambda: len(said(caplog, "answer header :status: 200")) >= (2 if callback == "answer" else 1))
        assert list(seen.heads)[-1].startswith(b"GET /" + callback.encode() + b" ")


async def test_from_on_vm_start(caplog: pytest.LogCaptureFixture) -> None:
    async with raw(lambda *_: OK) as (port, _), plugged("", port, vm_conf=conf(vm_start=[http()])):
        await until(lambda: said(caplog, "answer header :status: 200"))


async def test_from_the_end_of_a_root_context_nothing_is_called(caplog: pytest.LogCaptureFixture) -> None:
    async with raw(lambda *_: OK) as (port, seen):
        async with plugged(conf(root_done=[http(), "period 5"], tick=["period 5"]), port):
            pass
        await asyncio.sleep(0.05)
        assert seen.heads == []
    assert said(caplog) == ["root_done http up = 0 token 4", "root_done period 5 = 0"]


async def test_several_plugins_of_a_chain_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """The first two call and pause in turn; the third calls without waiting for its answer."""
    waiting = conf(request_headers=[http(b"/wait"), "pause"], answer=["header 0 :path", "resume 0"])
    asking = conf(request_headers=[http(b"/ask")])

    async with raw(lambda *_: OK) as (port, seen), plugged([waiting, waiting, asking], port) as middleware:
        response = await request(middleware, path="/here?x")
        await until(lambda: said(caplog, "answer header :status", plugin="third"))
        assert sorted(head.split()[1] for head in seen.heads) == [b"/ask", b"/wait", b"/wait"]
        assert response.body == b"app"
    for plugin in ("callouts", "second"):
        assert said(caplog, "answer header 0|resume", plugin) == ["answer header 0 = 0 /here?x", "answer resume 0 = 0"]


async def test_many_at_once_each_resumes_its_own(caplog: pytest.LogCaptureFixture) -> None:
    script = conf(request_headers=[http(), http(b"/2"), "pause"], answer=["resume 0"])
    async with raw(lambda *_: OK) as (port, seen), plugged(script, port) as middleware:
        responses = await asyncio.gather(*(request(middleware, path=f"/{index}") for index in range(60)))
        assert [response.body for response in responses] == [b"app"] * 60
        await until(lambda: len(said(caplog, "^answer [0-9]")) == 120)
        assert len(seen.heads) == 120
    tokens = [line.split()[1] for line in said(caplog, "^answer [0-9]")]
    assert len(set(tokens)) == 120


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


async def test_stream_of_an_answer_may_be_gone(caplog: pytest.LogCaptureFixture) -> None:
    script = conf(request_headers=[http()], answer=["resume 0"])
    async with raw(lambda *_: OK) as (port, _), plugged(script, port) as middleware:
        assert (await request(middleware)).body == b"app"
        await until(lambda: said(caplog, "answer header :status: 200"))
        assert (await request(middleware)).body == b"app"
    assert "answer without a stream" in said(caplog)
    assert "VM failed" not in caplog.text


async def test_answer_may_answer_the_client(caplog: pytest.LogCaptureFixture) -> None:
    script = conf(request_headers=[http(), "pause"], answer=["reply 403", "resume 0"])
    async with raw(lambda *_: OK) as (port, _), plugged(script, port) as middleware:
        response = await request(middleware)
    assert (response.status, response.body) == (403, b"replied")


async def test_response_waits_for_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    script = conf(response_headers=[http(), "pause"], answer=["header 2 :status", "resume 1"])
    async with raw(lambda *_: OK) as (port, _), plugged(script, port) as middleware:
        assert (await request(middleware)).body == b"app"
    assert said(caplog, "answer header 2") == ["answer header 2 = 0 200"]


async def test_pending_calls_end_with_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async with raw(lambda *_: None) as (port, seen):
        async with plugged(conf(configure=[http()] * 5), port):
            await until(lambda: len(seen.heads) == 5)
        await asyncio.sleep(0.05)
    assert said(caplog, "answer") == []


async def test_call_without_a_timeout_leaves_the_pause_to_its_own(caplog: pytest.LogCaptureFixture) -> None:
    script, settings = conf(request_headers=[http(timeout=0), "pause"]), {"pause_timeout": 0.1}
    async with raw(lambda *_: None) as (port, _), plugged(script, port, settings=settings) as middleware:
        assert (await request(middleware)).status == 504
    assert "plugin 'callouts': paused a stream for 0.1 s: it is answered 504" in caplog.text


async def test_client_that_leaves_ends_the_pause(caplog: pytest.LogCaptureFixture) -> None:
    script = conf(request_headers=[http(), "pause"], done=["period 0"])
    async with raw(lambda *_: None) as (port, _), plugged(script, port) as middleware:
        response = await request(middleware, "POST", body=[b"a"], stays=False)
        assert response.messages == []
    assert said(caplog, "done") == ["done period 0 = 0"]


@pytest.mark.parametrize("how", ["disconnect", "cancelled"])
async def test_client_that_leaves_ends_its_calls_at_once(caplog: pytest.LogCaptureFixture, how: str) -> None:
    """Not those of a request that has had its answer, nor what a plugin asks for when it is told of the end."""

    def calls() -> int:
        return sum("HttpCalls" in repr(task) for task in asyncio.all_tasks())

    script = conf(request_headers=[http(b"/ask", timeout=60_000), "pause"], log=[http(b"/log")])
    async with raw(lambda *_: None) as (port, seen), plugged(script, port) as middleware:
        asked = asyncio.ensure_future(request(middleware, stays=how != "disconnect"))
        if how == "cancelled":
            await until(lambda: seen.heads)
            asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await until(lambda: seen.heads and seen.heads[-1].startswith(b"GET /log "))
        await until(lambda: calls() == 1)
    assert said(caplog, "^answer") == ["answer 4 0 0 0", "answer status 11 reset", "answer without a stream"]


async def test_call_that_nobody_waits_for_outlives_its_request(caplog: pytest.LogCaptureFixture) -> None:
    async with raw(lambda *_: OK) as (port, seen):
        async with plugged(conf(request_headers=[http()]), port) as middleware:
            assert (await request(middleware, stays=False)).body == b"app"
            await until(lambda: said(caplog, "answer header :status: 200"))
        assert len(seen.heads) == 1


async def test_call_of_a_callback_that_trapped_is_not_made(caplog: pytest.LogCaptureFixture) -> None:
    script = conf(request_headers=[http(), "trap"])
    async with raw(lambda *_: OK) as (port, seen), plugged(script, port) as middleware:
        assert (await request(middleware)).status == 503
        await asyncio.sleep(0.05)
        assert seen.heads == []


async def test_calls_of_a_vm_that_failed_end_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """Or an upstream that never answers keeps the dead VM, with all its memory."""

    def under_way() -> int:
        return sum("HttpCalls" in repr(task) for task in asyncio.all_tasks())

    script = conf(request_headers=[http(), "period 50", "pause"], tick=["trap"])
    async with raw(lambda *_: None) as (port, seen), plugged(script, port) as middleware:
        asked = asyncio.ensure_future(request(middleware))
        await until(lambda: seen.heads)
        assert under_way() == 1
        assert (await asked).status == 503
        await until(lambda: not under_way())
        seen.over.set()
        await asyncio.sleep(0.05)
    assert said(caplog, "answer") == []


async def test_plugin_that_refuses_its_configuration_calls_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with raw(lambda *_: OK) as (port, seen):
        script = conf(configure=[http(), "refuse"])
        with pytest.raises(PluginStartError, match="on_configure answered false"):
            async with plugged(script, port):
                raise AssertionError("it did not refuse")
        # Another plugin of the same VM starts: what the first one asked for must be forgotten by then.
        file = str(PLUGINS / "callouts/c.wasm")
        plugins = [
            {"name": "refusing", "file": file, "conf": script, "failure_policy": "fail_open"},
            {"name": "callouts", "file": file, "conf": ""},
        ]
        async with plugged("", port, settings={"plugins": plugins}):
            await asyncio.sleep(0.05)
        assert seen.heads == []
    assert said(caplog, "http", plugin="refusing") == ["configure http up = 0 token 4"]


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut", b"what"], ids=["after headers", "before"]
)
async def test_lines_about_calls_that_fail_are_as_many_as_a_plugin_may_write(
    caplog: pytest.LogCaptureFixture, reply: bytes
) -> None:
    calls, most = 30, 4

    began = time.monotonic()
    async with raw(lambda *_: reply, closes=True) as (port, seen):
        plugin = {"name": "callouts", "file": PLUGINS / "callouts/c.wasm", "conf": conf(configure=[http()] * calls)}
        settings = {
            "plugins": [{**plugin, "log_level": "critical"}],
            "limits": {"log_lines_per_second": most},
        }
        async with plugged("", port, settings=settings):
            await until(lambda: len(seen.heads) == calls)
            await asyncio.sleep(0.05)
    seconds = int(time.monotonic() - began) + 2
    told = [record for record in caplog.records if "HTTP call to 'up'" in record.getMessage()]
    assert 0 < len(told) <= most * seconds
    assert "logs more than 4 lines a second" in caplog.text


async def test_call_that_fails_for_no_known_reason_is_answered_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(upstream: Upstream, call: HttpCall) -> NoReturn:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Upstream, "request", broken)
    lines, _ = await call_once(caplog, http())
    assert lines == ["answer 4 0 0 0", "answer status 11 reset"]
    assert "plugin 'callouts': HTTP call to 'up': RuntimeError: a bug" in caplog.text


async def test_http2_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h2", None)

    with pytest.raises(MissingExtraError, match="upstream 'up' wants http2: pip install 'asgi-wasm\\[http2\\]'"):
        async with plugged("", upstreams={"up": {"url": "http://127.0.0.1:9", "http2": True}}):
            raise AssertionError("it started")
