"""Corners that the comparison with Envoy found, each in the small."""

from __future__ import annotations

from asgi_wasm.asgi.exchange.sides import ResponseSide
from asgi_wasm.asgi.messages.rewriting import apply_request_headers
from asgi_wasm.asgi.messages.translate import request_headers
from asgi_wasm.host.streams.header_map import HeaderMap, RequestHeaderMap
from tests.driving import http_scope

_CONNECTION = [(b"connection", b"x"), (b"expect", b"100-continue"), (b"keep-alive", b"1"), (b"upgrade", b"h2c")]


def test_fields_of_the_connection_are_hidden_from_plugins_and_kept_for_the_app() -> None:
    scope = http_scope(headers=[*_CONNECTION, (b"x-a", b"1")])
    headers = request_headers(scope)
    assert headers.pairs[4:] == [(b"x-a", b"1")]
    headers.add(b"x-b", b"2")
    apply_request_headers(scope, headers)
    assert scope["headers"] == [(b"host", b"example.test"), *_CONNECTION, (b"x-a", b"1"), (b"x-b", b"2")]


def test_a_websocket_handshake_keeps_what_it_is_made_of() -> None:
    scope = {**http_scope(headers=_CONNECTION), "type": "websocket"}
    assert [name for name, _ in request_headers(scope).pairs[4:]] == [b"connection", b"upgrade"]


def test_host_is_another_name_of_the_authority_in_requests_only() -> None:
    request = RequestHeaderMap([(b":authority", b"a.test")])
    assert request.get(b"Host") == b"a.test"
    request.add(b"host", b"b.test")
    assert request.pairs == [(b":authority", b"a.test,b.test")]
    request.replace(b"host", b"c.test")
    assert request.pairs == [(b":authority", b"c.test")]
    request.remove(b"host")
    assert request.pairs == []
    response = HeaderMap()
    response.add(b"host", b"a.test")
    assert response.pairs == [(b"host", b"a.test")]


def test_a_true_content_length_stays_in_its_place() -> None:
    headers = HeaderMap([(b"content-length", b"3"), (b"x-a", b"1")])
    headers.put(b"content-length", b"5")
    headers.put(b"x-b", b"2")
    assert headers.pairs == [(b"content-length", b"5"), (b"x-a", b"1"), (b"x-b", b"2")]


def test_an_empty_response_says_so_where_there_may_be_a_body() -> None:
    for method, status, expected in (
        ("GET", b"200", [(b"content-length", b"0")]),
        ("HEAD", b"200", []),
        ("GET", b"204", []),
    ):
        side = ResponseSide(method, lambda: None, lambda _: None, trailers=False)
        side.headers(HeaderMap([(b":status", status)]), True)
        assert side.messages[0]["headers"] == expected
