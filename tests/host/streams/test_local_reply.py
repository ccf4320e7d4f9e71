from __future__ import annotations

import pytest

from asgi_wasm.host.codecs.wire import Pairs
from asgi_wasm.host.streams.header_map import HeaderMap
from asgi_wasm.host.streams.local_reply import local_reply

GET = HeaderMap([(b":method", b"GET")])
HEAD = HeaderMap([(b":method", b"HEAD")])
GRPC = HeaderMap([(b":method", b"POST"), (b"content-type", b"application/grpc+proto")])


def reply(
    request: HeaderMap = GET,
    status: int = 403,
    body: bytes = b"",
    headers: Pairs | None = None,
    grpc_status: int | None = None,
) -> tuple[Pairs, bytes]:
    made, content = local_reply(request, status, body, headers or [], grpc_status)
    return made.pairs, content


def test_with_and_without_a_body() -> None:
    assert reply() == ([(b":status", b"403")], b"")
    head = [(b":status", b"403"), (b"content-length", b"2"), (b"content-type", b"text/plain")]
    assert reply(body=b"no") == (head, b"no")
    # HEAD: the same head, and no body.
    assert reply(HEAD, body=b"no") == (head, b"")


def test_headers_are_added_and_the_length_is_true() -> None:
    given = [(b"Content-Type", b"text/html"), (b"content-length", b"99"), (b"x", b"1"), (b"x", b"2")]
    assert reply(body=b"no", headers=given)[0] == [
        (b":status", b"403"),
        (b"content-type", b"text/html"),
        *[(b"x", b"1"), (b"x", b"2")],
        (b"content-length", b"2"),
    ]
    assert reply(headers=given)[0] == [(b":status", b"403"), (b"x", b"1"), (b"x", b"2")]


@pytest.mark.parametrize(
    ("status", "sent"), [(200, b"200"), (599, b"599"), (199, b"500"), (600, b"500"), (0, b"500"), (0xFFFF_FFFF, b"500")]
)
def test_a_status_that_cannot_be_sent(status: int, sent: bytes) -> None:
    assert reply(status=status)[0] == [(b":status", sent)]


@pytest.mark.parametrize(
    ("status", "grpc"),
    [
        (400, 13),
        (401, 16),
        (403, 7),
        (404, 12),
        (429, 14),
        (502, 14),
        (503, 14),
        (504, 14),
        (200, 2),
        (418, 2),
        (500, 2),
    ],
)
def test_a_grpc_request_gets_a_trailers_only_answer(status: int, grpc: int) -> None:
    head = [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-status", b"%d" % grpc)]
    assert reply(GRPC, status) == (head, b"")


def test_a_grpc_answer_with_a_status_of_its_own_a_message_and_headers() -> None:
    pairs, content = reply(GRPC, 403, "50 % of ü\n".encode(), [(b"x", b"1")], 0)
    assert content == b""
    # The plugin's own first.
    assert pairs[1:] == [
        (b"x", b"1"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"0"),
        (b"grpc-message", b"50 %25 of %C3%BC%0A"),
    ]


def test_a_request_that_is_not_grpc() -> None:
    html = HeaderMap([(b"content-type", b"text/html")])
    assert reply(html, 403, grpc_status=7)[0] == [(b":status", b"403")]
