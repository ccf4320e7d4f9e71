"""Scope to pseudo-headers and back: bytes, order and duplicates stay."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_wasm.asgi import rewriting, translate
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from asgi_wasm.host.streams.header_map import HeaderMap, RequestHeaderMap
from tests.asgi.acting import passing
from tests.driving import Headers, Response, answering, http_scope, request
from tests.guests import REQUEST_HEADERS, RESPONSE_HEADERS, Api, Guest, Serve

PSEUDO = [(b":authority", b"example.test"), (b":path", b"/"), (b":method", b"GET"), (b":scheme", b"http")]


async def through(
    serve_guests: Serve, change: Any, *, without_host: bool = False, **asked: Any
) -> tuple[Scope, list[tuple[bytes, bytes]]]:
    """The scope that the app got, and the pairs that the plugin saw before its ``change``."""
    scopes: list[Scope] = []
    seen: list[tuple[bytes, bytes]] = []

    def on_request_headers(api: Api, *_: int) -> int:
        seen.extend(api.pairs(REQUEST_HEADERS))
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
    scope, _ = await through(serve_guests, lambda api: api.add(REQUEST_HEADERS, b"X-New", b"1"), raw_path=b"/stale")
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
    scope, _ = await through(serve_guests, lambda api: api.replace(REQUEST_HEADERS, name, value), path="/old?y=2")
    assert {key: scope[key] for key in expected} == expected


@pytest.mark.parametrize("name", [b":method", b":scheme", b":path"])
async def test_pseudo_header_that_is_removed_or_emptied_leaves_the_scope(serve_guests: Serve, name: bytes) -> None:
    for change in (
        lambda api: api.remove(REQUEST_HEADERS, name),
        lambda api: api.replace(REQUEST_HEADERS, name, b""),
    ):
        scope, _ = await through(serve_guests, change, path="/old?y=2")
        assert (scope["method"], scope["scheme"], scope["path"], scope["query_string"]) == (
            "GET",
            "http",
            "/old",
            b"y=2",
        )


async def test_removed_authority_removes_host(serve_guests: Serve) -> None:
    scope, _ = await through(serve_guests, lambda api: api.remove(REQUEST_HEADERS, b":authority"))
    assert scope["headers"] == []


async def test_missing_host(serve_guests: Serve) -> None:
    """HTTP/1.0: the server's own address stands in, for the plugins only, unless one writes another."""

    def changing(value: bytes | None) -> Any:
        return lambda api: [
            api.add(REQUEST_HEADERS, b"x", b"1"),
            value and api.replace(REQUEST_HEADERS, b":authority", value),
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

    async def main() -> None:
        guest = Guest(on_request_headers=lambda api, context, count, end: told.append(end))
        async with serve_guests(answering(b""), guest) as middleware:
            await request(middleware, method, headers=headers, http_version=version)

    await main()
    assert told == [int(ends)]


async def test_response_headers_both_ways(serve_guests: Serve) -> None:
    seen: list[Any] = []

    def on_response_headers(api: Api, *_: int) -> int:
        seen.extend(api.pairs(RESPONSE_HEADERS))
        api.replace(RESPONSE_HEADERS, b":status", b"202")
        api.add(RESPONSE_HEADERS, b"Set-Cookie", b"c=3")
        return 0

    headers = [(b"Set-Cookie", b"a=1"), (b"X-Latin", b"\xe9"), (b"set-cookie", b"b=2")]

    async def main() -> None:
        async with serve_guests(answering(b"x", headers=headers), Guest(on_response_headers=on_response_headers)) as it:
            response = await request(it)
            assert response.status == 202
            assert response.headers == [
                (b"set-cookie", b"a=1"),
                (b"x-latin", b"\xe9"),
                (b"set-cookie", b"b=2"),
                (b"set-cookie", b"c=3"),
            ]

    await main()
    assert seen == [(b":status", b"200"), (b"set-cookie", b"a=1"), (b"x-latin", b"\xe9"), (b"set-cookie", b"b=2")]


@pytest.mark.parametrize("status", [b"", b"abc", b"99", b"101", b"600", b"1000", b"-20", b"20\xb2", None])
async def test_status_that_cannot_be_sent(serve_guests: Serve, status: bytes | None) -> None:
    def on_response_headers(api: Api, *_: int) -> int:
        if status is None:
            api.remove(RESPONSE_HEADERS, b":status")
        else:
            api.replace(RESPONSE_HEADERS, b":status", status)
        return 0

    async with serve_guests(answering(b"x"), Guest(on_response_headers=on_response_headers)) as middleware:
        assert (await request(middleware)).status == 500


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((b"a b", b"1"), (b"", b"1"), (b"x:y", b"1"), (b"x\n", b"1")),
        *((b"x", b"1\r\nset-cookie: evil=1"), (b"x", b"\0"), (b"x", b"a\x0bb"), (b"x", b"\x7f")),
    ],
)
async def test_headers_that_would_break_the_framing_are_left_out(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture, name: bytes, value: bytes
) -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await answering(b"x")(scope, receive, send)

    async def main() -> None:
        guest = Guest(
            on_request_headers=lambda api, *_: api.add(REQUEST_HEADERS, name, value),
            on_response_headers=lambda api, *_: api.add(RESPONSE_HEADERS, name, value),
        )
        async with serve_guests(app, guest) as middleware:
            assert (await request(middleware)).headers == []

    await main()
    assert scopes[0]["headers"] == [(b"host", b"example.test")]
    # Of the request and of the response: an equal line is written once a minute.
    assert caplog.text.count("plugin 'g0': left out headers that HTTP cannot carry") == 1


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

    async def main() -> None:
        guest = Guest(on_request_headers=lambda api, *_: api.replace(REQUEST_HEADERS, name, value))
        async with serve_guests(app, guest) as middleware:
            scope = http_scope(type=kind, extensions={"websocket.http.response": {}})
            await middleware(scope, receive, send)

    await main()
    assert scopes == [] and sent[0]["status"] == 503


async def responded(serve_guests: Serve, change: Any, *chunks: bytes, headers: Headers = (), **more: Any) -> Response:
    """What the client gets when a plugin does ``change`` in the response's headers."""
    guest = Guest(on_response_headers=lambda api, *_: change(api), **more)

    async with serve_guests(answering(*chunks, headers=headers), guest) as middleware:
        return await request(middleware)


async def test_blanks_around_a_value_are_not_sent(serve_guests: Serve) -> None:
    """RFC 9110 5.5: they are no part of it, and h11 refuses to send them."""
    response = await responded(serve_guests, lambda api: api.add(RESPONSE_HEADERS, b"x", b" \tpadded "))
    assert response.headers == [(b"x", b"padded")]


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        *((b"transfer-encoding", value, False) for value in (b"chunked", b"gzip", b"identity")),
        *((b"content-length", value, True) for value in (b"-5", b"+5", b"5, 5", b"0x5", b"", b"\xb2")),
    ],
)
async def test_what_leaves_the_end_in_doubt_is_not_sent(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture, name: bytes, value: bytes, told: bool, sized: bool
) -> None:
    headers = [(b"content-length", b"5")] if sized else []
    response = await responded(
        serve_guests, lambda api: api.replace(RESPONSE_HEADERS, name, value), b"hello", headers=headers
    )
    # The length that the app gave is still the right one.
    assert response.headers == headers
    assert response.body == b"hello"
    assert ("left out headers that HTTP cannot carry: content-length" in caplog.text) == told


async def test_of_two_lengths_the_true_one_is_sent(serve_guests: Serve) -> None:
    headers = [(b"content-length", b"5")]
    response = await responded(
        serve_guests, lambda api: api.add(RESPONSE_HEADERS, b"content-length", b"7"), b"hello", headers=headers
    )
    assert response.headers == headers


@pytest.mark.parametrize("sees_body", [False, True])
@pytest.mark.parametrize("headers", [[], [(b"content-length", b"5")]])
@pytest.mark.parametrize("status", [b"204", b"304"])
async def test_response_that_a_plugin_makes_one_without_body_has_none(
    serve_guests: Serve, status: bytes, headers: Headers, sees_body: bool
) -> None:
    """On a connection that is kept, its body would be read as the next response."""
    more = {"on_response_body": passing} if sees_body else {}
    response = await responded(
        serve_guests,
        lambda api: api.replace(RESPONSE_HEADERS, b":status", status),
        *(b"he", b"llo"),
        headers=headers,
        **more,
    )
    assert (response.status, response.headers, response.body, response.complete) == (int(status), [], b"", True)


@pytest.mark.parametrize("status", [204, 304])
async def test_local_response_without_body_has_none(serve_guests: Serve, status: int) -> None:
    response = await responded(serve_guests, lambda api: api.reply(status, b"hello"), b"app")
    assert (response.status, response.body, response.header(b"content-length")) == (status, b"", None)


async def test_app_may_say_how_long_a_body_would_be_that_304_has_not(serve_guests: Serve) -> None:
    app = answering(b"", headers=[(b"content-length", b"5")], status=304)
    async with serve_guests(app, Guest(on_response_headers=passing)) as middleware:
        assert (await request(middleware)).headers == [(b"content-length", b"5")]


async def test_extra_keys_of_the_start_message_stay(serve_guests: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "novelty": 1})
        await send({"type": "http.response.body"})

    async with serve_guests(app, Guest(on_response_headers=passing)) as middleware:
        assert (await request(middleware)).messages[0]["novelty"] == 1


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
