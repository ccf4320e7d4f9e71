"""Spec chapter "gRPC calls".

Followed: proxy-wasm-cpp-host `src/exports.cc`; Envoy `source/extensions/common/wasm/context.cc` (`grpcCall` to
`grpcCancel`). A token belongs to the root context that it was given to.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from asgi_wasm.host.abi import CalloutType, HostcallError, ProxyStatus
from asgi_wasm.host.effects import GrpcCall, GrpcCancel, GrpcClose, GrpcSend, GrpcStream
from asgi_wasm.host.grpc_service import find_service
from asgi_wasm.host.grpc_tokens import GrpcInput, GrpcState
from asgi_wasm.host.hostcalls.system import acting_context
from asgi_wasm.host.wire import Pairs, decode_pairs

if TYPE_CHECKING:
    from asgi_wasm.host.contexts import RootContext
    from asgi_wasm.host.vm import WasmVM

__all__ = ["grpc_call", "grpc_cancel", "grpc_close", "grpc_send", "grpc_stream"]

_KIND_MASK = 3
# Envoy's circuit breaker: `max_requests` of a cluster.
_MOST_CALLS = 1024
# What Envoy lets into no header.
_FORBIDDEN = re.compile(rb"[\x00\r\n\x7f]")


def grpc_call(
    vm: WasmVM,
    upstream_data: int,
    upstream_size: int,
    service_data: int,
    service_size: int,
    method_data: int,
    method_size: int,
    metadata_data: int,
    metadata_size: int,
    message_data: int,
    message_size: int,
    timeout_milliseconds: int,
    return_token: int,
) -> int | None:
    """Make a unary call after this callback. Success comes by `on_grpc_receive`, failure by `on_grpc_close`.

    A timeout of 0 is the service's own, or none.
    PARSE_FAILURE, BAD_ARGUMENT, INTERNAL_FAILURE: see `find_service` and `_check`.
    """
    read = vm.memory.read
    upstream = read(upstream_data, upstream_size)
    service_name, method = read(service_data, service_size), read(method_data, method_size)
    metadata = decode_pairs(read(metadata_data, metadata_size))
    message = read(message_data, message_size)
    root = acting_context(vm).root
    service = find_service(upstream, vm.ports.can_call_grpc)
    merged = _lower(service.metadata + metadata)
    _check(root, service_name, method, merged)
    path = _path(service_name, method)
    token = vm.next_callout_token(CalloutType.GRPC_CALL)
    vm.memory.write_u32(return_token, token)
    root.grpc_tokens.begin(token, GrpcState.HALF_CLOSED)
    timeout = timeout_milliseconds or service.timeout_milliseconds
    vm.effects.append(GrpcCall(root, token, service.upstream, path, merged, message, timeout))
    return None


def grpc_stream(
    vm: WasmVM,
    upstream_data: int,
    upstream_size: int,
    service_data: int,
    service_size: int,
    method_data: int,
    method_size: int,
    metadata_data: int,
    metadata_size: int,
    return_token: int,
) -> int | None:
    """Open a stream after this callback; messages may be sent at once. It has no timeout, as in Envoy.

    PARSE_FAILURE, BAD_ARGUMENT, INTERNAL_FAILURE: see `find_service` and `_check`.
    """
    read = vm.memory.read
    upstream = read(upstream_data, upstream_size)
    service_name, method = read(service_data, service_size), read(method_data, method_size)
    metadata = decode_pairs(read(metadata_data, metadata_size))
    root = acting_context(vm).root
    service = find_service(upstream, vm.ports.can_call_grpc)
    merged = _lower(service.metadata + metadata)
    _check(root, service_name, method, merged)
    path = _path(service_name, method)
    token = vm.next_callout_token(CalloutType.GRPC_STREAM)
    vm.memory.write_u32(return_token, token)
    root.grpc_tokens.begin(token, GrpcState.OPEN)
    vm.effects.append(GrpcStream(root, token, service.upstream, path, merged))
    return None


def grpc_send(vm: WasmVM, token: int, message_data: int, message_size: int, end_stream: int) -> int | None:
    """Send a message on a stream. BAD_ARGUMENT for a token that is no stream's, NOT_FOUND for one that is gone.

    OK, and dropped, when the plugin has closed the stream before, or the other side has now.
    """
    message = vm.memory.read(message_data, message_size)
    root = acting_context(vm).root
    if token & _KIND_MASK != CalloutType.GRPC_STREAM:
        return ProxyStatus.BAD_ARGUMENT
    if root.grpc_tokens.apply(token, GrpcInput.END if end_stream else GrpcInput.SEND):
        vm.effects.append(GrpcSend(root, token, message, bool(end_stream)))
    return None


def grpc_close(vm: WasmVM, token: int) -> int | None:
    """Half-close a stream, or cancel a call.

    BAD_ARGUMENT for a token that is not gRPC's, NOT_FOUND for one that is gone.
    """
    root = acting_context(vm).root
    if _kind(token) is CalloutType.GRPC_CALL:
        return grpc_cancel(vm, token)
    if root.grpc_tokens.apply(token, GrpcInput.CLOSE):
        vm.effects.append(GrpcClose(root, token))
    return None


def grpc_cancel(vm: WasmVM, token: int) -> int | None:
    """Reset a stream or a call: no callback for it comes any more. Statuses as `grpc_close`."""
    root = acting_context(vm).root
    _kind(token)
    if root.grpc_tokens.apply(token, GrpcInput.CANCEL):
        vm.effects.append(GrpcCancel(root, token))
    return None


def _kind(token: int) -> CalloutType:
    """Raises `HostcallError` BAD_ARGUMENT for a token that is not gRPC's."""
    kind = token & _KIND_MASK
    if kind not in (CalloutType.GRPC_CALL, CalloutType.GRPC_STREAM):
        raise HostcallError(ProxyStatus.BAD_ARGUMENT)
    return CalloutType(kind)


def _check(root: RootContext, service: bytes, method: bytes, metadata: Pairs) -> None:
    """Raises `HostcallError` INTERNAL_FAILURE, as Envoy, for what no header may hold, or too many calls under way."""
    texts = [service, method]
    for name, value in metadata:
        # Binary values are encoded before they are sent.
        texts += [name] if name.endswith(b"-bin") else [name, value]
    if any(map(_FORBIDDEN.search, texts)) or len(root.grpc_tokens) >= _MOST_CALLS:
        raise HostcallError(ProxyStatus.INTERNAL_FAILURE)


def _path(service: bytes, method: bytes) -> str:
    return f"/{service.decode('utf-8', 'replace')}/{method.decode('utf-8', 'replace')}"


def _lower(metadata: Pairs) -> Pairs:
    return [(name.lower(), value) for name, value in metadata]
