"""How a gRPC call ended: what the peer says of it, and what is said when the peer says nothing.

Followed: Envoy `source/common/grpc/` (`async_client_impl.cc`, `common.cc`), and what the real Envoy answered to broken
servers (`tests/conformance/test_grpc.py`).
"""

from __future__ import annotations

from asgi_wasm.host.codecs.wire import Pairs

OK, CANCELLED, UNKNOWN, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 0, 1, 2, 8, 12, 13, 14
_PERMISSION_DENIED, _UNAUTHENTICATED, _MAX_KNOWN = 7, 16, 16
_MAX_DIGITS = 20
# Envoy's `InvalidCode`, as the plugin's unsigned number.
INVALID = 0xFFFF_FFFF

_OK = b"200"
_OF_HTTP = {
    b"400": INTERNAL,
    b"401": _UNAUTHENTICATED,
    b"403": _PERMISSION_DENIED,
    b"404": UNIMPLEMENTED,
    **dict.fromkeys((b"429", b"502", b"503", b"504"), UNAVAILABLE),
}

# Envoy's words: why nothing came, or nothing more.
REMOTE_RESET = b"remote reset"
REFUSED = b"remote refused stream reset"
TERMINATED = b"connection termination"
PROTOCOL_ERROR = b"protocol error"
NO_CONNECTION = b"remote connection failure"
CONNECT_TIMEOUT = b"connection timeout"
OVERFLOW = b"overflow"
_BEFORE_HEADERS = b"upstream connect error or disconnect/reset before headers. reset reason: "
_AFTER_HEADERS = b"upstream_reset_after_response_started{%s}"
TIMEOUT = b"upstream request timeout"
LATE_TIMEOUT = b"response_timeout"


def is_ok(http_status: bytes) -> bool:
    """Whether gRPC may follow."""
    return http_status == _OK


def of_http(http_status: bytes) -> int:
    """For an answer that is no gRPC (gRPC `doc/http-grpc-status-mapping.md`)."""
    return _OF_HTTP.get(http_status, UNKNOWN)


def of_trailers(fields: Pairs) -> tuple[int, bytes]:
    """The status that they tell, and its text: as it came, percent-encoded."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        found.setdefault(name, value)
    message = found.get(b"grpc-message", b"")
    told = found.get(b"grpc-status")
    if told is None:
        return UNKNOWN, message
    # A number of any length would take long to read.
    is_known = told.isdigit() and len(told) <= _MAX_DIGITS and int(told) <= _MAX_KNOWN
    return int(told) if is_known else INVALID, message


def local_trailers(message: bytes) -> Pairs:
    """What Envoy's router answers in the server's stead, where it has not begun to."""
    return [
        (b":status", _OK),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"%d" % UNAVAILABLE),
        (b"grpc-message", message),
    ]


def before_headers(reason: bytes) -> bytes:
    """The text of a status for a call that broke off before its answer began."""
    return _BEFORE_HEADERS + reason


def after_headers(reason: bytes) -> bytes:
    """The text of a status for a call whose answer broke off."""
    return _AFTER_HEADERS % reason.replace(b" ", b"_")
