"""Heads of responses to pseudo-headers and back, and what of them is not sent."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import passing
from tests.driving import Headers, Response, answering, request
from tests.guests import REQUEST_HEADERS, RESPONSE_HEADERS, Guest, Serve


async def test_response_headers_both_ways(serve_guests: Serve) -> None:
    seen: list[Any] = []

    def on_response_headers(api: Hostcalls, *_: int) -> int:
        seen.extend(api.get_header_map_pairs(RESPONSE_HEADERS))
        api.replace_header_map_value(RESPONSE_HEADERS, b":status", b"202")
        api.add_header_map_value(RESPONSE_HEADERS, b"Set-Cookie", b"c=3")
        return 0

    headers = [(b"Set-Cookie", b"a=1"), (b"X-Latin", b"\xe9"), (b"set-cookie", b"b=2")]

    async with serve_guests(answering(b"x", headers=headers), Guest(on_response_headers=on_response_headers)) as it:
        response = await request(it)
        assert response.status == 202
        assert response.headers == [
            (b"set-cookie", b"a=1"),
            (b"x-latin", b"\xe9"),
            (b"set-cookie", b"b=2"),
            (b"set-cookie", b"c=3"),
        ]
    assert seen == [(b":status", b"200"), (b"set-cookie", b"a=1"), (b"x-latin", b"\xe9"), (b"set-cookie", b"b=2")]


@pytest.mark.parametrize("status", [b"", b"abc", b"99", b"101", b"600", b"1000", b"-20", b"20\xb2", None])
async def test_status_that_cannot_be_sent(serve_guests: Serve, status: bytes | None) -> None:
    def on_response_headers(api: Hostcalls, *_: int) -> int:
        if status is None:
            api.remove_header_map_value(RESPONSE_HEADERS, b":status")
        else:
            api.replace_header_map_value(RESPONSE_HEADERS, b":status", status)
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

    guest = Guest(
        on_request_headers=lambda api, *_: api.add_header_map_value(REQUEST_HEADERS, name, value),
        on_response_headers=lambda api, *_: api.add_header_map_value(RESPONSE_HEADERS, name, value),
    )
    async with serve_guests(app, guest) as middleware:
        assert (await request(middleware)).headers == []
    assert scopes[0]["headers"] == [(b"host", b"example.test")]
    # Of the request and of the response: an equal line is written once a minute.
    assert caplog.text.count("plugin 'g0': left out headers that HTTP cannot carry") == 1


async def responded(serve_guests: Serve, change: Any, *chunks: bytes, headers: Headers = (), **more: Any) -> Response:
    """What the client gets when a plugin does ``change`` in the response's headers."""
    guest = Guest(on_response_headers=lambda api, *_: change(api), **more)

    async with serve_guests(answering(*chunks, headers=headers), guest) as middleware:
        return await request(middleware)


async def test_blanks_around_a_value_are_not_sent(serve_guests: Serve) -> None:
    """RFC 9110 5.5: they are no part of it, and h11 refuses to send them."""
    response = await responded(
        serve_guests, lambda api: api.add_header_map_value(RESPONSE_HEADERS, b"x", b" \tpadded ")
    )
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
        serve_guests, lambda api: api.replace_header_map_value(RESPONSE_HEADERS, name, value), b"hello", headers=headers
    )
    # The length that the app gave is still the right one.
    assert response.headers == headers
    assert response.body == b"hello"
    assert ("left out headers that HTTP cannot carry: content-length" in caplog.text) == told


async def test_of_two_lengths_the_true_one_is_sent(serve_guests: Serve) -> None:
    headers = [(b"content-length", b"5")]
    response = await responded(
        serve_guests,
        lambda api: api.add_header_map_value(RESPONSE_HEADERS, b"content-length", b"7"),
        b"hello",
        headers=headers,
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
        lambda api: api.replace_header_map_value(RESPONSE_HEADERS, b":status", status),
        *(b"he", b"llo"),
        headers=headers,
        **more,
    )
    assert (response.status, response.headers, response.body, response.complete) == (int(status), [], b"", True)


@pytest.mark.parametrize("status", [204, 304])
async def test_local_response_without_body_has_none(serve_guests: Serve, status: int) -> None:
    response = await responded(serve_guests, lambda api: api.send_local_response(status, b"hello"), b"app")
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
