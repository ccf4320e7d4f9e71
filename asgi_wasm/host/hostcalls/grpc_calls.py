"""Spec chapter "gRPC calls".

Followed: proxy-wasm-cpp-host `src/exports.cc`; Envoy `source/extensions/common/wasm/context.cc` (`grpcCall` to
`grpcCancel`). A token belongs to the root context that it was given to.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from asgi_wasm.host import limits
from asgi_wasm.host.abi import CalloutType, HostcallError, ProxyStatus
from asgi_wasm.host.codecs.grpc_service import GrpcService, find_service
from asgi_wasm.host.codecs.wire import Pairs
from asgi_wasm.host.effects import GrpcCall, GrpcCancel, GrpcClose, GrpcSend, GrpcStream
from asgi_wasm.host.hostcalls.system import acting_context
from asgi_wasm.host.ports import LimitReachedError
from asgi_wasm.host.vm.grpc_tokens import GrpcInput, GrpcState, cost
from asgi_wasm.http_syntax import FIELD_VALUE, TOKEN

if TYPE_CHECKING:
    from asgi_wasm.host.vm.contexts import RootContext
    from asgi_wasm.host.vm.vm import WasmVM

__all__ = ["grpc_call", "grpc_cancel", "grpc_close", "grpc_send", "grpc_stream"]

_KIND_MASK = 3
_TOKEN = re.compile(TOKEN.encode())
_VALUE = re.compile(FIELD_VALUE.encode())
_TOKEN_BYTES = 4

# Address and size in the guest's memory.
_Range = tuple[int, int]


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
    PARSE_FAILURE, BAD_ARGUMENT, INTERNAL_FAILURE: see `find_service` and `_read_request`.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_grpc_call
    Follows: Envoy `Context::grpcCall` (`source/extensions/common/wasm/context.cc`).
    """
    # All that is passed in is looked at before what it says (cpp-host `grpc_call`).
    limits.check_range(vm, message_data, message_size)
    texts = ((upstream_data, upstream_size), (service_data, service_size), (method_data, method_size))
    root, service, path, metadata = _read_request(vm, texts, (metadata_data, metadata_size))
    message = _read_message(vm, root, message_data, message_size)
    limits.check_range(vm, return_token, _TOKEN_BYTES)
    token = vm.calls.next_token(CalloutType.GRPC_CALL)
    timeout = timeout_milliseconds or service.timeout_milliseconds
    stream_id = acting_context(vm).stream_id
    call = GrpcCall(root, token, service.upstream, path, metadata, message, timeout, stream_id)
    limits.ask(vm, call, metadata_size + message_size)
    vm.memory.write_u32(return_token, token)
    root.grpc_tokens.begin(token, GrpcState.HALF_CLOSED)
    root.grpc_tokens.unsent += cost(message)
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

    PARSE_FAILURE, BAD_ARGUMENT, INTERNAL_FAILURE: see `find_service` and `_read_request`.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_grpc_stream
    Follows: Envoy `Context::grpcStream` (`source/extensions/common/wasm/context.cc`).
    """
    texts = ((upstream_data, upstream_size), (service_data, service_size), (method_data, method_size))
    root, service, path, metadata = _read_request(vm, texts, (metadata_data, metadata_size))
    limits.check_range(vm, return_token, _TOKEN_BYTES)
    token = vm.calls.next_token(CalloutType.GRPC_STREAM)
    stream = GrpcStream(root, token, service.upstream, path, metadata, acting_context(vm).stream_id)
    limits.ask(vm, stream, metadata_size)
    vm.memory.write_u32(return_token, token)
    root.grpc_tokens.begin(token, GrpcState.OPEN)
    return None


def grpc_send(vm: WasmVM, token: int, message_data: int, message_size: int, end_stream: int) -> int | None:
    """Send a message on a stream. BAD_ARGUMENT for a token that is no stream's, NOT_FOUND for one that is gone.

    OK, and dropped, when the plugin has closed the stream before, or the other side has now. INTERNAL_FAILURE, and
    nothing has happened, when too much waits already for servers to take it (`_read_message`).

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_grpc_send
    Follows: Envoy `Context::grpcSend` (`source/extensions/common/wasm/context.cc`).
    """
    root = acting_context(vm).root
    if token & _KIND_MASK != CalloutType.GRPC_STREAM:
        limits.check_range(vm, message_data, message_size)
        return ProxyStatus.BAD_ARGUMENT
    message = _read_message(vm, root, message_data, message_size)
    if root.grpc_tokens.apply(token, GrpcInput.END if end_stream else GrpcInput.SEND):
        limits.leave(vm, GrpcSend(root, token, message, bool(end_stream)))
        root.grpc_tokens.unsent += cost(message)
    return None


def grpc_close(vm: WasmVM, token: int) -> int | None:
    """Half-close a stream, or cancel a call.

    BAD_ARGUMENT for a token that is not gRPC's, NOT_FOUND for one that is gone.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_grpc_close
    Follows: Envoy `Context::grpcClose` (`source/extensions/common/wasm/context.cc`).
    """
    root = acting_context(vm).root
    if _kind(token) is CalloutType.GRPC_CALL:
        return grpc_cancel(vm, token)
    if root.grpc_tokens.apply(token, GrpcInput.CLOSE):
        limits.leave(vm, GrpcClose(root, token))
    return None


def grpc_cancel(vm: WasmVM, token: int) -> int | None:
    """Reset a stream or a call: no callback for it comes any more. Statuses as `grpc_close`.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_grpc_cancel
    Follows: Envoy `Context::grpcCancel` (`source/extensions/common/wasm/context.cc`).
    """
    root = acting_context(vm).root
    _kind(token)
    if root.grpc_tokens.apply(token, GrpcInput.CANCEL):
        limits.leave(vm, GrpcCancel(root, token))
    return None


def _kind(token: int) -> CalloutType:
    """Raises `HostcallError` BAD_ARGUMENT for a token that is not gRPC's."""
    kind = token & _KIND_MASK
    if kind not in (CalloutType.GRPC_CALL, CalloutType.GRPC_STREAM):
        raise HostcallError(ProxyStatus.BAD_ARGUMENT)
    return CalloutType(kind)


def _read_request(
    vm: WasmVM, texts: tuple[_Range, _Range, _Range], metadata_range: _Range
) -> tuple[RootContext, GrpcService, str, Pairs]:
    """Who asks, whom, for which path, with which metadata; ``texts`` are upstream, service and method.

    Raises `HostcallError` as `find_service`, and INTERNAL_FAILURE, as Envoy, for what no header may hold or too many
    calls of all plugins to the upstream; `LimitReachedError` for too many of this one, or too much metadata.
    """
    for text in texts:
        limits.check_range(vm, *text)
    metadata = limits.read_pairs(vm, *metadata_range)
    upstream = limits.read_name(vm, *texts[0], ProxyStatus.BAD_ARGUMENT)
    name, method = (limits.read_name(vm, *text) for text in texts[1:])
    root = acting_context(vm).root
    service = find_service(upstream, vm.ports.can_call_grpc)
    merged = [(key.lower(), value) for key, value in (*service.metadata, *metadata)]
    limits.check_all_headers(vm, merged)
    most = root.spec.limits.calls_under_way
    if root.calls_under_way >= most:
        raise LimitReachedError("calls_under_way", most)
    if not vm.ports.has_room_grpc(service.upstream) or not _is_sendable(name, method, merged):
        raise HostcallError(ProxyStatus.INTERNAL_FAILURE)
    # Any byte is a character of it, and becomes that byte again.
    return root, service, f"/{name.decode('latin-1')}/{method.decode('latin-1')}", merged


def _is_sendable(service: bytes, method: bytes, metadata: Pairs) -> bool:
    # Pseudo-headers are left out later, and binary values are encoded before they are sent.
    names = [name.removeprefix(b":") for name, _ in metadata]
    values = [service, method, *(value for name, value in metadata if not name.endswith(b"-bin"))]
    return all(map(_TOKEN.fullmatch, names)) and all(map(_VALUE.fullmatch, values))


def _read_message(vm: WasmVM, root: RootContext, data: int, size: int) -> bytes:
    """Raises `LimitReachedError` when servers have not taken enough of what the plugin sent before.

    Where that is so of all plugins together: `HostcallError` INTERNAL_FAILURE.
    """
    most = vm.spec.limits.callback_call_bytes
    if root.grpc_tokens.unsent + size > most:
        limits.check_range(vm, data, size)
        raise LimitReachedError("callback_call_bytes", most)
    message = vm.memory.read(data, size)
    if not vm.ports.may_send_grpc(size):
        raise HostcallError(ProxyStatus.INTERNAL_FAILURE)
    return message
