"""Scope to header map, response messages to header maps and back. Bytes stay bytes.

What plugins made of a request is written back by `rewriting`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

from asgi_wasm.asgi.types import Message, Scope
from asgi_wasm.host.streams.header_map import HeaderMap, RequestHeaderMap, ResponseHeaderMap
from asgi_wasm.http_syntax import FIELD_VALUE, MAX_STATUS, MIN_STATUS, TOKEN

BODILESS_STATUSES = 204, 304
_FIRST_REDIRECTION = 300
# Methods whose responses may have no body, whatever their status.
BODILESS_METHODS = frozenset({"HEAD", "CONNECT"})
# uvicorn too refuses a response with any control character but the tab in a value.
_TOKEN = re.compile(TOKEN.encode())
_VALUE = re.compile(FIELD_VALUE.encode())
# RFC 9110 8.6. Servers take more for a number than clients do ("+5").
_LENGTH = re.compile(rb"[0-9]{1,18}")
# What concerns one connection only, and what the server itself acts on: Envoy takes it out before its plugins see a
# request (`ConnectionManagerUtility::mutateRequestHeaders`). The app still gets it.
_CONNECTION_FIELDS = frozenset(
    {b"connection", b"expect", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
HIDDEN = _CONNECTION_FIELDS | {b"host"}
# What HTTP/2 and 3 cannot carry in a response (RFC 9113 8.2.2): servers raise, or break off.
HOP_FIELDS = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"})
# What says where a message ends, or may not be sent: not for the lane to judge.
FRAMING = HOP_FIELDS | {b"content-length"}
# A WebSocket handshake is made of these: Envoy leaves them in.
_UPGRADE_FIELDS = frozenset({b"connection", b"upgrade"})
# Methods whose requests have no body unless they say so, for the versions of HTTP that need not say so.
_BODY_UNLIKELY = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "CONNECT"})
_SUBPROTOCOL = b"sec-websocket-protocol"
_COOKIE = b"cookie"
# Versions of HTTP in which clients cut `cookie` into pieces.
_CRUMBLING = frozenset({"2", "2.0", "3", "3.0"})
_HTTP_SCHEMES = {"ws": "http", "wss": "https"}


def settle_headers(scope: Scope) -> None:
    """Make ``headers`` a list of pairs, as servers do, where ASGI allows more: any iterable, once readable, or none.

    In place: whoever else reads them finds them as well.
    """
    scope["headers"] = [(bytes(name), bytes(value)) for name, value in scope.get("headers") or ()]


def request_headers(scope: Scope) -> HeaderMap:
    """The request's header map: pseudo-headers in Envoy's order, then the headers.

    `host` is hidden by `:authority`; fields of the connection are left out.
    """
    hidden = hidden_fields(scope)
    fields = [(bytes(name), bytes(value)) for name, value in scope["headers"] if name != b"host" and name not in hidden]
    offers = scope.get("subprotocols")
    if offers and scope["type"] == "websocket" and all(name != _SUBPROTOCOL for name, _ in fields):
        fields.append((_SUBPROTOCOL, ", ".join(offers).encode("latin-1", "replace")))
    if scope.get("http_version") in _CRUMBLING:
        fields = _uncrumbled(fields)
    return RequestHeaderMap.received(pseudo_headers(scope) + fields)


def _uncrumbled(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """One `cookie`, of which clients make several for the sake of compression (RFC 9113 8.2.3), where the first was.

    Followed: Envoy `Utility::reconstituteCrumbledCookies`. The app gets them as they came, if no plugin changes any.
    """
    crumbs = [value for name, value in fields if name == _COOKIE]
    if len(crumbs) < 2:
        return fields
    at = next(index for index, field in enumerate(fields) if field[0] == _COOKIE)
    others = [field for field in fields if field[0] != _COOKIE]
    return [*others[:at], (_COOKIE, b"; ".join(crumbs)), *others[at:]]


def pseudo_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The request's pseudo-headers, in Envoy's order."""
    host, scheme = None, scope.get("scheme") or "http"
    for name, value in scope["headers"]:
        if name == b"host":
            host = bytes(value)
            break
    return [
        (b":authority", _server(scope) if host is None else host),
        (b":path", request_path(scope)),
        (b":method", (scope.get("method") or "GET").encode("latin-1")),
        # A WebSocket's handshake is HTTP, and so it is to Envoy's plugins.
        (b":scheme", _HTTP_SCHEMES.get(scheme, scheme).encode("latin-1")),
    ]


def own_host(scope: Scope) -> bytes | None:
    """The client's `host`, if it sent one."""
    return next((bytes(value) for name, value in scope["headers"] if name == b"host"), None)


def hidden_fields(scope: Scope) -> frozenset[bytes]:
    """What plugins are not shown of its headers, besides `host`."""
    return _CONNECTION_FIELDS - _UPGRADE_FIELDS if scope["type"] == "websocket" else _CONNECTION_FIELDS


def _server(scope: Scope) -> bytes:
    server = scope.get("server")
    if not server:
        return b""
    host, port = server
    return f"{host}:{port}".encode() if port is not None else str(host).encode()


def request_path(scope: Scope) -> bytes:
    """The request target: the path as it was sent, where the server tells, and the query."""
    raw_path = scope.get("raw_path")
    # Some servers leave the query in raw_path, which the specification excludes.
    path: bytes = _quoted(scope["path"]) if raw_path is None else raw_path.partition(b"?")[0]
    query: bytes | None = scope.get("query_string")
    return path + b"?" + query if query else path


def _quoted(path: str) -> bytes:
    """Escaped; lone surrogates stand for bytes that are no UTF-8 (PEP 383), or for nothing that can be said."""
    try:
        return quote(path, errors="surrogateescape").encode("ascii")
    except UnicodeEncodeError:
        return quote(path, errors="replace").encode("ascii")


def request_ends_with_headers(scope: Scope, *, guesses: bool) -> bool | None:
    """Whether no body follows. Where the headers do not tell, which have neither length nor transfer coding: None, or
    what is likely (RFC 9112 6.3; for HTTP/2 and 3 by the method).
    """
    length: bytes | None = None
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return False
        if name == b"content-length":
            length = value
    if length is not None:
        return bool(length.strip() == b"0")
    return is_likely_to_end(scope) if guesses else None


def is_likely_to_end(scope: Scope) -> bool:
    """Whether no body follows on headers that have neither length nor transfer coding: likely, with HTTP/2 and 3."""
    return (scope.get("http_version") or "1.1").startswith(("1", "0")) or scope["method"] in _BODY_UNLIKELY


def is_multiplexed(scope: Scope) -> bool:
    """Whether the client speaks HTTP/2 or later, where a stream ends without its connection."""
    return not (scope.get("http_version") or "1.1").startswith(("1", "0"))


def is_without_stream(scope: Scope) -> bool:
    """Whether what such a request has for a body, if any, is at hand: over HTTP/1 it cannot be a stream."""
    return scope["method"] in _BODY_UNLIKELY and (scope.get("http_version") or "1.1").startswith(("1", "0"))


def expects_continue(scope: Scope) -> bool:
    """Whether the client sends its body when it is asked to."""
    return any(name == b"expect" for name, _ in scope["headers"])


def shown_fields(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The headers of an HTTP request as plugins see them, without pseudo-headers."""
    fields = [field for field in scope["headers"] if field[0] not in HIDDEN]
    return _uncrumbled(fields) if scope.get("http_version") in _CRUMBLING else fields


def content_length(message: Message) -> bytes | None:
    """What a start message declares, values of a repeated header joined as a header map has them."""
    return response_headers(message).get(b"content-length")


def response_headers(message: Message) -> HeaderMap:
    """The header map of an app's response start."""
    return ResponseHeaderMap.received([(b":status", b"%d" % message["status"]), *header_pairs(message)])


def response_ends_with_headers(method: str, headers: HeaderMap) -> bool:
    """Whether the response has no body, whatever the app sends (RFC 9110 6.4.1)."""
    return not may_have_body(method, status_of(headers)) or headers.get(b"content-length") == b"0"


def may_have_body(method: str, status: int) -> bool:
    """Whether a response to this method, with this status, has a body, be it an empty one."""
    if method == "CONNECT" and status < _FIRST_REDIRECTION:
        return False
    return method != "HEAD" and status not in BODILESS_STATUSES


def status_of(headers: HeaderMap) -> int:
    """The status as a number; 500 for one that cannot be sent."""
    text = headers.get(b":status") or b""
    status = int(text) if text.isdigit() and len(text) == 3 else 0
    return status if MIN_STATUS <= status <= MAX_STATUS else 500


def response_start(original: Message | None, headers: HeaderMap) -> tuple[dict[str, Any], list[bytes]]:
    """The start message for these headers, keeping the app's other keys, and the names that could not be sent."""
    message, dropped = start_message(original, headers)
    message["headers"], contradicting = _delimited(message["headers"])
    return message, dropped + contradicting


def start_message(original: Message | None, headers: HeaderMap) -> tuple[dict[str, Any], list[bytes]]:
    """`response_start` before anybody has looked at what it says of its length."""
    fields, dropped = sendable(headers)
    message: dict[str, Any] = dict(original) if original is not None else {}
    message.update(type="http.response.start", status=status_of(headers), headers=fields)
    return message, dropped


def _delimited(fields: list[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """Fields that leave no doubt where the response ends, and the names of those that did.

    Servers send several lengths, or a length and a transfer coding, as they are told; a client may then find a second
    response in the first one's body. The transfer coding is the server's affair; Envoy takes out what its plugins say
    of it, too (`ConnectionManagerUtility::mutateResponseHeaders`).
    """
    lengths = [value for name, value in fields if name == b"content-length"]
    if not lengths or (len(lengths) == 1 and _LENGTH.fullmatch(lengths[0])):
        return fields, []
    return [field for field in fields if field[0] != b"content-length"], [b"content-length"]


def sendable(headers: HeaderMap) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """Headers without pseudo-headers, and the names of those that would break the message's framing."""
    fields: list[tuple[bytes, bytes]] = []
    dropped: list[bytes] = []
    for name, value in headers.pairs:
        if name.startswith(b":") or name == b"transfer-encoding":
            # How a message is cut into pieces is for servers to say, on each side.
            continue
        if _TOKEN.fullmatch(name) and _VALUE.fullmatch(value):
            fields.append((name, value.strip(b" \t")))
        else:
            dropped.append(name)
    return fields, dropped


def sendable_trailers(trailers: HeaderMap) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """Trailers as ASGI wants them, and the names of what cannot be sent, such as fields that are about the message."""
    fields, dropped = sendable(trailers)
    kept = [field for field in fields if field[0] != b"content-length" and field[0] not in HOP_FIELDS]
    return kept, dropped + [name for name, _ in fields if name == b"content-length" or name in HOP_FIELDS]


def without_hop_fields(
    fields: list[tuple[bytes, bytes]], own: Collection[tuple[bytes, bytes]]
) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """The fields without what plugins wrote of a connection, and its names. ``own`` are those of the app."""
    written = [field for field in fields if field[0] in HOP_FIELDS and field not in own]
    return [field for field in fields if field not in written], [name for name, _ in written]


def header_pairs(message: Message) -> list[tuple[bytes, bytes]]:
    """The pairs of a message, with names in lower case."""
    return [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers") or ()]
