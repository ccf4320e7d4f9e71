"""`proxy_http_call`, word by word: what goes out.

The answers to what breaks are those that the real Envoy gave to the same plugin.
"""

from __future__ import annotations

import asyncio
import logging

import pytest

from asgi_wasm.host.codecs.wire import encode_pairs
from tests.driving import until
from tests.plugins.calling import OK, answer_body, call_once
from tests.plugins.callouts import conf, http, plugged, raw_http, said
from tests.serving import free_port
from tests.upstreams import raw


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


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
