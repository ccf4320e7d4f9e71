"""What a local response looks like on the wire.

Followed: Envoy `source/common/http/utility.cc` (`prepareLocalReply`, `encodeLocalReply`) and
`source/common/grpc/status.cc` (`httpToGrpcStatus`).
"""

from __future__ import annotations

from typing import NamedTuple

from asgi_wasm.host.codecs.wire import Pairs
from asgi_wasm.host.streams.header_map import HeaderMap, ResponseHeaderMap
from asgi_wasm.http_syntax import MAX_STATUS, MIN_STATUS

# HTTP status -> gRPC status; anything else is 2 UNKNOWN.
_GRPC_STATUS = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_GRPC_UNKNOWN = 2


class HostAnswer(NamedTuple):
    """What the host answers by itself, to the client, and to who asks for `response.code_details`."""

    status: int
    body: bytes
    details: bytes


# A held body over the limit, as Envoy answers it: by direction.
OVER_LIMIT = (
    HostAnswer(413, b"Payload Too Large", b"body_over_limit"),
    HostAnswer(500, b"Internal Server Error", b"body_over_limit"),
)
# Envoy's `failStream`.
FAILED_CLOSED = HostAnswer(503, b"", b"wasm_fail_stream")
# A method, scheme or path that no request line can carry, as Envoy's codec does.
UNSENDABLE_TARGET = HostAnswer(503, b"", b"unsendable_request_target")
# A request whose body plugins made shorter than the app was told.
BODY_TOO_SHORT = HostAnswer(500, b"Internal Server Error", b"request_body_too_short")
PAUSED_TOO_LONG = HostAnswer(504, b"", b"pause_timeout")


def local_reply(
    request: HeaderMap, status_code: int, body: bytes, headers: Pairs, grpc_status: int | None
) -> tuple[HeaderMap, bytes]:
    """Headers (with ``:status``) and body of the answer; for a gRPC request, a trailers-only one.

    A status that no final response can have becomes 500, since it could not be sent.
    """
    # Of a plugin's headers: no pseudo-header, since the status has its own argument.
    headers = [(name, value) for name, value in headers if not name.startswith(b":")]
    if _is_grpc(request.get(b"content-type") or b""):
        return _grpc_reply(status_code, body, headers, grpc_status), b""
    if not MIN_STATUS <= status_code <= MAX_STATUS:
        status_code = 500
    reply = ResponseHeaderMap([(b":status", b"%d" % status_code)])
    for name, value in headers:
        reply.add(name, value)
    if body:
        reply.replace(b"content-length", b"%d" % len(body))
        if reply.get(b"content-type") is None:
            reply.add(b"content-type", b"text/plain")
    else:
        reply.remove(b"content-length")
        reply.remove(b"content-type")
    return reply, (b"" if request.get(b":method") == b"HEAD" else body)


def detail_words(details: bytes) -> bytes:
    """A local response's details as attributes have them: without white space, so that a log's columns stay columns."""
    return b"_".join(details.split())


def grpc_status_of(status_code: int) -> int:
    """What an HTTP status means to gRPC."""
    return _GRPC_STATUS.get(status_code, _GRPC_UNKNOWN)


def _is_grpc(content_type: bytes) -> bool:
    """`application/grpc` and `application/grpc+proto`, but not `application/grpc-web`."""
    return content_type == b"application/grpc" or content_type.startswith(b"application/grpc+")


def _grpc_reply(status_code: int, body: bytes, headers: Pairs, grpc_status: int | None) -> HeaderMap:
    if grpc_status is None:
        grpc_status = grpc_status_of(status_code)
    reply = ResponseHeaderMap([(b":status", b"200")])
    for name, value in headers:
        reply.add(name, value)
    reply.remove(b"content-length")
    # In their places, where the plugin gave them too.
    reply.put(b"content-type", b"application/grpc")
    reply.put(b"grpc-status", b"%d" % grpc_status)
    if body:
        reply.put(b"grpc-message", _percent_encode(body))
    return reply


def _percent_encode(message: bytes) -> bytes:
    """gRPC over HTTP/2, "Status-Message": bytes outside printable ASCII, and "%", as %XX."""
    return b"".join(bytes([byte]) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in message)
