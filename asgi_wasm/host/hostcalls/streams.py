"""Spec chapters "HTTP streams" and "Stream control": resume, reset, answer.

All of it happens after the callback, through `host.effects`.
Followed: Envoy `source/extensions/common/wasm/context.cc` (`continueStream`, `closeStream`, `sendLocalResponse`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host import limits
from asgi_wasm.host.abi import MapType, ProxyStatus, StreamType
from asgi_wasm.host.effects import CloseStream, ContinueStream, LocalResponse
from asgi_wasm.host.hostcalls.system import acting_context

if TYPE_CHECKING:
    from asgi_wasm.host.vm.vm import WasmVM

__all__ = [
    "clear_route_cache",
    "close_stream",
    "continue_request",
    "continue_response",
    "continue_stream",
    "send_local_response",
]

_NO_GRPC_STATUS = 0xFFFF_FFFF


def continue_stream(vm: WasmVM, stream_type: int) -> int | None:
    """Resume one direction. OK from a root context too, where it does nothing.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_continue_stream
    Follows: Envoy `Context::continueStream` (`source/extensions/common/wasm/context.cc`).
    """
    if stream_type > StreamType.UPSTREAM:
        return ProxyStatus.BAD_ARGUMENT
    if stream_type == StreamType.UPSTREAM:
        return ProxyStatus.UNIMPLEMENTED
    stream = acting_context(vm).stream
    if stream is not None and stream_type <= StreamType.HTTP_RESPONSE:
        # Envoy forgets its pointers here, whichever direction goes on.
        stream.maps[MapType.HTTP_REQUEST_HEADERS] = stream.maps[MapType.HTTP_REQUEST_TRAILERS] = None
        limits.leave(vm, ContinueStream(stream, StreamType(stream_type)))
    return None


def close_stream(vm: WasmVM, stream_type: int) -> int | None:
    """Reset the stream: the client's connection ends without a whole response. Nothing for the types of TCP streams.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_close_stream
    Follows: Envoy `Context::closeStream` (`source/extensions/common/wasm/context.cc`).
    """
    if stream_type > StreamType.UPSTREAM:
        return ProxyStatus.BAD_ARGUMENT
    stream = acting_context(vm).stream
    if stream is not None and stream_type <= StreamType.HTTP_RESPONSE:
        limits.leave(vm, CloseStream(stream, StreamType(stream_type)))
    return None


def continue_request(vm: WasmVM) -> int | None:
    """0.1.0 only: `continue_stream` of the request.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.1.0/README.md#proxy_continue_request
    Follows: proxy-wasm-cpp-host `exports::continue_request` (`src/exports.cc`).
    """
    return continue_stream(vm, StreamType.HTTP_REQUEST)


def continue_response(vm: WasmVM) -> int | None:
    """0.1.0 only: `continue_stream` of the response.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.1.0/README.md#proxy_continue_response
    Follows: proxy-wasm-cpp-host `exports::continue_response` (`src/exports.cc`).
    """
    return continue_stream(vm, StreamType.HTTP_RESPONSE)


def clear_route_cache(_vm: WasmVM) -> int | None:
    """0.1.0 only. There is no route cache: the app routes after the plugins.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.1.0/README.md#proxy_clear_route_cache
    Follows: Envoy `Context::clearRouteCache` (`source/extensions/common/wasm/context.h`).
    """
    return None


def send_local_response(
    vm: WasmVM,
    status_code: int,
    details_data: int,
    details_size: int,
    body_data: int,
    body_size: int,
    headers_data: int,
    headers_size: int,
    grpc_status: int,
) -> int | None:
    """Answer in the app's stead. OK always, also when it comes too late to be sent (spec and cpp-host).

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_send_local_response
    Follows: Envoy `Context::sendLocalResponse` (`source/extensions/common/wasm/context.cc`).
    """
    body = limits.read(vm, "local_reply_bytes", body_data, body_size)
    details = limits.read_name(vm, details_data, details_size)
    headers = limits.read_pairs(vm, headers_data, headers_size)
    stream = acting_context(vm).stream
    if stream is not None:
        grpc = None if grpc_status == _NO_GRPC_STATUS else grpc_status
        response = LocalResponse(stream, status_code, details, body, headers, grpc)
        limits.leave(vm, response, details_size + body_size + headers_size)
    return None
