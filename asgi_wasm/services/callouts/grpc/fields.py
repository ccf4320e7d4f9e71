"""The header fields of a gRPC call: those that are sent, and what is let through of those that come."""

from __future__ import annotations

import re
from base64 import b64encode
from math import ceil
from urllib.parse import urlsplit

from hpack import HeaderTuple, NeverIndexedHeaderTuple

from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.codecs.wire import Pairs
from asgi_wasm.host.effects import GrpcCall, GrpcStream
from asgi_wasm.host.vm.contexts import RootContext
from asgi_wasm.host.vm.vm import vm_of
from asgi_wasm.http_syntax import FIELD_VALUE, TOKEN
from asgi_wasm.services.callouts.grpc import status as grpc_status
from asgi_wasm.services.callouts.messages import MAX_FIELDS
from asgi_wasm.specs import UpstreamSpec

# Envoy's `max_response_headers_kb`.
MAX_FIELD_BYTES = 60 * 1024

_STATUS = re.compile(rb"[1-9][0-9]{2}")
# HTTP/2 has no capitals.
_NAME = re.compile(TOKEN.replace("A-Z", "").encode())
_VALUE = re.compile(FIELD_VALUE.encode())
_BINARY = b"-bin"
# What gRPC and HTTP/2 say themselves.
_OURS = frozenset(
    b"content-type te grpc-timeout host content-length transfer-encoding "
    b"connection keep-alive proxy-connection upgrade".split()
)
# HPACK keeps these in no table, from which they could be guessed (RFC 7541 7.1.3).
_SECRET = frozenset({b"authorization", b"cookie"})
# gRPC allows eight digits; the letters are units, in milliseconds.
_UNITS = ((b"m", 1), (b"S", 1000), (b"M", 60_000), (b"H", 3_600_000))
_MOST_UNITS = 99_999_999


def request_fields(effect: GrpcCall | GrpcStream, upstream: UpstreamSpec, timeout: float | None) -> list[HeaderTuple]:
    """What is sent: pseudo-headers, gRPC's own, the plugin's metadata, the settings' headers in place of equal ones.

    ``timeout`` is in seconds. What only the host may say, the plugin's pseudo-headers too, is left out with a line of
    the log.
    """
    parts = urlsplit(upstream.url)
    own = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in upstream.headers]
    authority = dict(own).get(b"host", parts.netloc.rpartition("@")[2].encode("latin-1", "replace"))
    fields = [
        (b":method", b"POST"),
        (b":path", effect.path.encode("latin-1", "replace")),
        (b":authority", authority),
        (b":scheme", parts.scheme.encode()),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
    if timeout is not None:
        fields.append((b"grpc-timeout", _grpc_timeout(timeout)))
    replaced = {name for name, _ in own}
    fields += _metadata([pair for pair in effect.metadata if pair[0] not in replaced], effect.root)
    fields += [pair for pair in own if pair[0] != b"host"]
    return [(NeverIndexedHeaderTuple if name in _SECRET else HeaderTuple)(name, value) for name, value in fields]


def _metadata(pairs: Pairs, root: RootContext) -> Pairs:
    result: Pairs = []
    for name, value in pairs:
        if name in _OURS or name.startswith(b":"):
            # In the plugin's share of the log: it may call again and again.
            told = f"the metadata {name!r} is gRPC's own: it is left out"
            vm_of(root).log_lines.host(LogLevel.WARN, told, root)
        else:
            result.append((name, b64encode(value) if name.endswith(_BINARY) else value))
    return result


def _grpc_timeout(seconds: float) -> bytes:
    """As Envoy has it: the smallest unit that fits."""
    milliseconds = ceil(seconds * 1000)
    for letter, size in _UNITS:
        if milliseconds // size <= _MOST_UNITS:
            return b"%d%s" % (milliseconds // size, letter)
    return b"%dH" % _MOST_UNITS


def fault(fields: Pairs, *, are_trailers: bool) -> bytes | None:
    """Why these must not reach a plugin, in Envoy's words; None if they may."""
    if len(fields) > MAX_FIELDS or sum(len(name) + len(value) for name, value in fields) > MAX_FIELD_BYTES:
        return grpc_status.REMOTE_RESET
    pseudo = [name for name, _ in fields if name.startswith(b":")]
    if pseudo != ([] if are_trailers else [b":status"]):
        return grpc_status.PROTOCOL_ERROR
    for name, value in fields:
        if name == b":status":
            is_good = _STATUS.fullmatch(value) is not None
        else:
            is_good = _NAME.fullmatch(name) is not None and _VALUE.fullmatch(value) is not None
        if not is_good:
            return grpc_status.PROTOCOL_ERROR
    return None
