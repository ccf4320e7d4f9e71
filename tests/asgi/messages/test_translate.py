"""Scope to pseudo-headers and back: bytes, order and duplicates stay."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_wasm.asgi.messages import rewriting, translate
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from asgi_wasm.host.streams.header_map import HeaderMap, RequestHeaderMap
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import passing
from tests.driving import Headers, answering, http_scope, request
from tests.guests import REQUEST_HEADERS, Guest, Serve


async def through(
    serve_guests: Serve, change: Any, *, without_host: bool = False, **asked: Any
) -> tuple[Scope, list[tuple[bytes, bytes]]]:
    """The scope that the app got, and the pairs that the plugin saw before its ``change``."""
    scopes: list[Scope] = []
    seen: list[tuple[bytes, bytes]] = []

    def on_request_headers(api: Hostcalls, *_: int) -> int:
        seen.extend(api.get_header_map_pairs(REQUEST_HEADERS))
        change(api)
        return 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await answering(b"")(scope, receive, send)

    async with serve_guests(app, Guest(on_request_headers=on_request_headers)) as middleware:

        async def outer(scope: Scope, receive: Receive, send: Send) -> None:
            if without_host:
                scope["headers"] = scope["headers"][1:]
            await middleware(scope, receive, send)

        assert (await request(outer, **asked)).status == 200
    return scopes[0], seen


async def test_pseudo_headers_come_first_and_host_is_hidden(serve_guests: Serve) -> None:
    headers = [(b"cookie", b"a=1"), (b"x", b"\xff\xfe"), (b"cookie", b"b=2"), (b"x-empty", b"")]
    scope, seen = await through(serve_guests, passing, path="/a%2Fb/../c?x=%20&y", headers=headers)
    assert seen == [
        (b":authority", b"example.test"),
        (b":path", b"/a%2Fb/../c?x=%20&y"),
        (b":method", b"GET"),
        (b":scheme", b"http"),
        *headers,
    ]
    assert scope["headers"] == [(b"host", b"example.test"), *headers]


async def test_scope_that_no_plugin_changed_is_as_it_was(serve_guests: Serve) -> None:
    """Also where a middleware outside of us has rewritten the path and left the raw one."""
    scope, _ = await through(serve_guests, passing, raw_path=b"/stale")
    expected = http_scope(raw_path=b"/stale")
    assert {key: scope[key] for key in expected} == expected


async def test_header_that_a_plugin_added_changes_nothing_else(serve_guests: Serve) -> None:
    scope, _ = await through(
        serve_guests, lambda api: api.add_header_map_value(REQUEST_HEADERS, b"X-New", b"1"), raw_path=b"/stale"
    )
    expected = http_scope(raw_path=b"/stale")
    assert scope["headers"] == [(b"host", b"example.test"), (b"x-new", b"1")]
    assert {key: scope[key] for key in expected if key != "headers"} == {
        key: value for key, value in expected.items() if key != "headers"
    }


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (b":method", b"put", {"method": "PUT"}),
        (b":scheme", b"https", {"scheme": "https"}),
        (b":authority", b"other.test:81", {"headers": [(b"host", b"other.test:81")]}),
        (b":path", b"/new", {"path": "/new", "raw_path": b"/new", "query_string": b""}),
        (
            b":path",
            b"/%C3%A9/%2F?q=%20?",
            {"path": "/é//", "raw_path": b"/%C3%A9/%2F", "query_string": b"q=%20?"},
        ),
        (b":path", b"/%ff", {"path": "/\N{REPLACEMENT CHARACTER}", "raw_path": b"/%ff"}),
        (b":path", b"/a/../b/.", {"path": "/a/../b/.", "raw_path": b"/a/../b/."}),
        (b":path", b"?x=1", {"path": "", "raw_path": b"", "query_string": b"x=1"}),
    ],
)
async def test_each_field_is_written_back(
    serve_guests: Serve, name: bytes, value: bytes, expected: dict[str, Any]
) -> None:
    scope, _ = await through(
        serve_guests, lambda api: api.replace_header_map_value(REQUEST_HEADERS, name, value), path="/old?y=2"
    )
    assert {key: scope[key] for key in expected} == expected


@pytest.mark.parametrize("name", [b":method", b":scheme", b":path"])
async def test_pseudo_header_that_is_removed_or_emptied_leaves_the_scope(serve_guests: Serve, name: bytes) -> None:
    for change in (
        lambda api: api.remove_header_map_value(REQUEST_HEADERS, name),
        lambda api: api.replace_header_map_value(REQUEST_HEADERS, name, b""),
    ):
        scope, _ = await through(serve_guests, change, path="/old?y=2")
        assert (scope["method"], scope["scheme"], scope["path"], scope["query_string"]) == (
            "GET",
            "http",
            "/old",
            b"y=2",
        )


async def test_removed_authority_removes_host(serve_guests: Serve) -> None:
    scope, _ = await through(serve_guests, lambda api: api.remove_header_map_value(REQUEST_HEADERS, b":authority"))
    assert scope["headers"] == []


async def test_missing_host(serve_guests: Serve) -> None:
    """HTTP/1.0: the server's own address stands in, for the plugins only, unless one writes another."""

    def changing(value: bytes | None) -> Any:
        return lambda api: [
            api.add_header_map_value(REQUEST_HEADERS, b"x", b"1"),
            value and api.replace_header_map_value(REQUEST_HEADERS, b":authority", value),
        ]

    asked: dict[str, Any] = {"http_version": "1.0"}
    for server, authority in ((("127.0.0.1", 80), b"127.0.0.1:80"), (("/tmp/sock", None), b"/tmp/sock"), (None, b"")):
        for written, hosts in ((None, []), (b"new.test", [(b"host", b"new.test")])):
            scope, seen = await through(serve_guests, changing(written), server=server, without_host=True, **asked)
            assert seen[0] == (b":authority", authority)
            assert scope["headers"] == [*hosts, (b"x", b"1")]


def test_path_of_a_server_that_gives_no_raw_path() -> None:
    scope = http_scope(path="/x", raw_path=None)
    scope["path"] = "/é b/%"
    assert translate.request_path(scope) == b"/%C3%A9%20b/%25"
    assert translate.request_path({**scope, "raw_path": b"/raw?leaked=1", "query_string": b"q"}) == b"/raw?q"
    # Bytes that are no UTF-8, as `os.fsdecode` has them, and what stands for nothing.
    assert translate.request_path({"path": "/\udcff"}) == b"/%FF"
    assert translate.request_path({"path": "/a\ud800"}) == b"/a%3F"


@pytest.mark.parametrize(
    ("version", "method", "headers", "ends"),
    [
        ("1.1", "GET", [], True),
        ("1.1", "POST", [], True),
        ("1.0", "POST", [], True),
        ("1.1", "POST", [(b"content-length", b"0")], True),
        ("1.1", "POST", [(b"content-length", b"1")], False),
        ("1.1", "GET", [(b"content-length", b"1")], False),
        ("1.1", "POST", [(b"content-length", b"0"), (b"transfer-encoding", b"chunked")], False),
        ("1.1", "GET", [(b"transfer-encoding", b"chunked")], False),
        ("2", "GET", [], True),
        ("2", "POST", [], False),
        ("3", "HEAD", [], True),
        ("2", "POST", [(b"content-length", b"0")], True),
        ("2", "GET", [(b"content-length", b"2")], False),
    ],
)
async def test_end_of_stream_is_told_by_the_headers(
    serve_guests: Serve, version: str, method: str, headers: Headers, ends: bool
) -> None:
    told: list[int] = []

    guest = Guest(on_request_headers=lambda api, context, count, end: told.append(end))
    async with serve_guests(answering(b""), guest) as middleware:
        await request(middleware, method, headers=headers, http_version=version)
    assert told == [int(ends)]


@pytest.mark.parametrize("value", [b"a\r\nx-admin: 1", b"a\0", b"a\nb"])
@pytest.mark.parametrize("name", [b":authority", b":path", b":method", b":scheme"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_target_that_no_server_would_hand_over(serve_guests: Serve, name: bytes, value: bytes, kind: str) -> None:
    """Envoy answers 503, and its upstream sees nothing."""
    scopes: list[Scope] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)

    async def receive() -> Message:
        return {"type": "websocket.connect" if kind == "websocket" else "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    guest = Guest(on_request_headers=lambda api, *_: api.replace_header_map_value(REQUEST_HEADERS, name, value))
    async with serve_guests(app, guest) as middleware:
        scope = http_scope(type=kind, extensions={"websocket.http.response": {}})
        await middleware(scope, receive, send)
    assert scopes == [] and sent[0]["status"] == 503


names = st.from_regex(rb"[a-z][a-z0-9-]{0,8}", fullmatch=True).filter(
    lambda name: name != b"host" and name not in RequestHeaderMap.single
)
values = (
    st.binary(max_size=8)
    .filter(lambda value: not set(value) & ({*range(32), 127} - {9}))
    .map(lambda value: value.strip(b" \t"))
)


@given(st.lists(st.tuples(names, values), max_size=6))
def test_any_headers_survive_a_change_of_another(headers: list[tuple[bytes, bytes]]) -> None:
    scope = http_scope(headers=headers)
    pairs = translate.request_headers(scope)
    pairs.add(b"x-new", b"1")
    assert rewriting.apply_request_headers(scope, pairs) == []
    assert scope["headers"] == [(b"host", b"example.test"), *headers, (b"x-new", b"1")]


def test_message_without_headers() -> None:
    message: Message = {"type": "http.response.start", "status": 204}
    assert translate.response_headers(message).pairs == [(b":status", b"204")]
    assert translate.response_start(None, HeaderMap([(b":status", b"204")]))[0] == {
        "type": "http.response.start",
        "status": 204,
        "headers": [],
    }
