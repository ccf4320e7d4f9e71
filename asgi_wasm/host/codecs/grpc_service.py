"""Whom a gRPC call is for: an upstream's name, or a serialized `envoy.config.core.v3.GrpcService`.

Followed: Envoy `source/extensions/common/wasm/context.cc` (`grpcCall`), `api/envoy/config/core/v3/grpc_service.proto`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from asgi_wasm.host.abi import HostcallError, ProxyStatus
from asgi_wasm.host.codecs import protobuf
from asgi_wasm.host.codecs.wire import Pairs

# Field numbers of `GrpcService`, its targets, `HeaderValue` and `google.protobuf.Duration`.
_ENVOY_GRPC, _GOOGLE_GRPC, _TIMEOUT, _INITIAL_METADATA = 1, 2, 3, 5
_CLUSTER_NAME = _TARGET_URI = 1
_KEY, _VALUE, _RAW_VALUE = 1, 2, 3
_SECONDS, _NANOS = 1, 2

_SIGN_BIT = 1 << 63


@dataclass(frozen=True)
class GrpcService:
    """The upstream to call. ``timeout_milliseconds`` is 0 for none; ``metadata`` goes before the call's own."""

    upstream: str
    timeout_milliseconds: int = 0
    metadata: Pairs = field(default_factory=list)


def find_service(service: bytes, is_known: Callable[[str], bool]) -> GrpcService:
    """What the bytes name.

    Raises `HostcallError`: PARSE_FAILURE for bytes that are neither a known name nor a `GrpcService`, BAD_ARGUMENT for
    a `GrpcService` that names no target (on which Envoy aborts), INTERNAL_FAILURE for one whose target is unknown.
    """
    name = service.decode("utf-8", "replace")
    # Envoy tries protobuf first; but a name may happen to be a message too (a field that nobody knows).
    if is_known(name):
        return GrpcService(name)
    try:
        message = protobuf.decode(service)
        target, metadata = _target(message), _metadata(message)
        timeout = _milliseconds(message)
    except protobuf.ProtobufError:
        raise HostcallError(ProxyStatus.PARSE_FAILURE) from None
    if not target:
        raise HostcallError(ProxyStatus.BAD_ARGUMENT)
    if not is_known(target):
        raise HostcallError(ProxyStatus.INTERNAL_FAILURE)
    return GrpcService(target, timeout, metadata)


def _target(message: protobuf.Message) -> str:
    for kind, field_number in ((_ENVOY_GRPC, _CLUSTER_NAME), (_GOOGLE_GRPC, _TARGET_URI)):
        target = protobuf.text(protobuf.decode(protobuf.text(message, kind)), field_number)
        if target:
            return target.decode("utf-8", "replace")
    return ""


def _metadata(message: protobuf.Message) -> Pairs:
    pairs: Pairs = []
    for entry in message.get(_INITIAL_METADATA, []):
        if isinstance(entry, int):
            raise protobuf.ProtobufError("initial_metadata is a number")
        header = protobuf.decode(entry)
        value = protobuf.text(header, _RAW_VALUE) or protobuf.text(header, _VALUE)
        pairs.append((protobuf.text(header, _KEY), value))
    return pairs


def _milliseconds(message: protobuf.Message) -> int:
    duration = protobuf.decode(protobuf.text(message, _TIMEOUT))
    seconds, nanos = protobuf.number(duration, _SECONDS), protobuf.number(duration, _NANOS)
    if seconds >= _SIGN_BIT or nanos >= _SIGN_BIT:
        # A negative duration bounds nothing.
        return 0
    return seconds * 1000 + -(-nanos // 1_000_000)
