"""What comes back of an HTTP call"""

from __future__ import annotations

import gzip
import logging
import time
from typing import NoReturn

import pytest

from asgi_wasm.host.effects import HttpCall
from asgi_wasm.services.callouts.upstreams import Upstream
from asgi_wasm.services.clock import SystemClock
from tests.driving import until
from tests.plugins.calling import OK, RESET, answer_body, call_once, local_answer
from tests.plugins.callouts import conf, http, plugged, said
from tests.plugins.conftest import PLUGINS
from tests.serving import free_port
from tests.upstreams import raw


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


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
    cut = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut"
    for timeout in (200, 2000, 20_000):
        caplog.clear()
        async with raw(lambda *_: cut) as (port, _), plugged(conf(configure=[http(timeout=timeout)]), port):
            await until(lambda: said(caplog, "answer status"))
        # On a machine that stood still it is over before the head has come.
        if not said(caplog, "answer header :status: 504"):
            break
    assert said(caplog, "^answer") == ["answer 4 0 0 0", "answer status 11 reset"]


async def test_status_of_a_failure_stays_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    """Envoy never resets the code, and clears the message."""

    def answer(line: bytes, headers: dict[bytes, bytes], body: bytes) -> bytes:
        return OK if b"/ok" in line else b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"

    script = conf(configure=[http(b"/cut")], answer=[http(b"/ok")])
    async with raw(answer, closes=True) as (port, _), plugged(script, port):
        await until(lambda: len(said(caplog, "answer status")) >= 2)
    assert said(caplog, "answer status")[:2] == ["answer status 11 reset", "answer status 11 "]


@pytest.mark.parametrize(
    ("reply", "level", "most"),
    # The second is told at a level at which the plugin writes a line for each call, too.
    [(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut", "warn", 4), (b"what", "info", 31)],
    ids=["after headers", "before"],
)
async def test_lines_about_calls_that_fail_are_as_many_as_a_plugin_may_write(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, reply: bytes, level: str, most: int
) -> None:
    calls = 30
    # All that is written is of one second, however long a busy machine takes.
    monkeypatch.setattr(SystemClock, "monotonic", lambda _: time.monotonic_ns() // 1000)
    async with raw(lambda *_: reply, closes=True) as (port, seen):
        plugin = {"name": "callouts", "file": PLUGINS / "callouts/c.wasm", "conf": conf(configure=[http()] * calls)}
        settings = {
            "plugins": [{**plugin, "log_level": level}],
            "limits": {"log_lines_per_second": most},
        }
        async with plugged("", port, settings=settings):
            await until(lambda: len(seen.heads) == calls)
            await until(lambda: f"logs more than {most} lines a second" in caplog.text)
    told = [record for record in caplog.records if "HTTP call to 'up'" in record.getMessage()]
    assert 0 < len(told) <= most


async def test_call_that_fails_for_no_known_reason_is_answered_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(upstream: Upstream, call: HttpCall) -> NoReturn:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Upstream, "request", broken)
    lines, _ = await call_once(caplog, http())
    assert lines == ["answer 4 0 0 0", "answer status 11 reset"]
    assert "plugin 'callouts': HTTP call to 'up': RuntimeError: a bug" in caplog.text
