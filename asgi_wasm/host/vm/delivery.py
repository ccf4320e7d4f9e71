"""Answers of HTTP and gRPC calls, handed to the plugin: each to its root context, as a callback of its own.

To be called when no callback runs. Nothing reaches a VM that failed, a root context that is gone, or a gRPC token that
is. Followed: Envoy `source/extensions/common/wasm/context.cc` (`onHttpCallSuccess`, `onHttpCallFailure`, `onGrpc…`).
"""

from __future__ import annotations

from asgi_wasm.host.abi import BufferType, MapType, ProxyStatus
from asgi_wasm.host.streams.buffer import Buffer
from asgi_wasm.host.streams.header_map import HeaderMap
from asgi_wasm.host.vm.contexts import RootContext
from asgi_wasm.host.vm.grpc_tokens import GrpcInput


def deliver_http_response(
    root: RootContext, token: int, headers: HeaderMap, body: bytes, trailers: HeaderMap | None = None
) -> None:
    """Hand the answer of an HTTP call to the plugin. Its SDK finds the stream that the token belongs to.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_http_call_response
    Follows: Envoy `Context::onHttpCallSuccess` (`source/extensions/common/wasm/context.cc`).
    """
    root.maps = {MapType.HTTP_CALL_RESPONSE_HEADERS: headers}
    if trailers is not None:
        root.maps[MapType.HTTP_CALL_RESPONSE_TRAILERS] = trailers
    root.buffers = {BufferType.HTTP_CALL_RESPONSE_BODY: Buffer(body, writable=False)}
    try:
        root.notify("proxy_on_http_call_response", token, len(headers), len(body), len(trailers or ()))
    finally:
        root.maps, root.buffers = {}, {}


def deliver_http_failure(root: RootContext, token: int) -> None:
    """Tell the plugin that its HTTP call was reset: all zero, and `get_status` says why (Envoy `onHttpCallFailure`).

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_http_call_response
    Follows: Envoy `Context::onHttpCallFailure` (`source/extensions/common/wasm/context.cc`).
    """
    root.status = (ProxyStatus.BROKEN_CONNECTION, b"reset")
    try:
        root.notify("proxy_on_http_call_response", token, 0, 0, 0)
    finally:
        root.status = (root.status[0], b"")


def deliver_grpc_initial_metadata(root: RootContext, token: int, metadata: HeaderMap) -> None:
    """A stream's metadata, before its first message: always, even when there is none.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_grpc_receive_initial_metadata
    Follows: Envoy `Context::onGrpcReceiveInitialMetadataWrapper` (`source/extensions/common/wasm/context.cc`).
    """
    _deliver_metadata(root, token, MapType.GRPC_RECEIVE_INITIAL_METADATA, metadata)


def deliver_grpc_trailing_metadata(root: RootContext, token: int, metadata: HeaderMap) -> None:
    """A stream's metadata after its last message, just before its status.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_grpc_receive_trailing_metadata
    Follows: Envoy `Context::onGrpcReceiveTrailingMetadataWrapper` (`source/extensions/common/wasm/context.cc`).
    """
    _deliver_metadata(root, token, MapType.GRPC_RECEIVE_TRAILING_METADATA, metadata)


def _deliver_metadata(root: RootContext, token: int, map_type: MapType, metadata: HeaderMap) -> None:
    if token not in root.grpc_tokens:
        return
    root.maps = {map_type: metadata}
    try:
        root.notify(f"proxy_on_{map_type.name.lower()}", token, len(metadata))
    finally:
        root.maps = {}


def deliver_grpc_message(root: RootContext, token: int, message: bytes) -> None:
    """One message of a stream.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_grpc_receive
    Follows: Envoy `Context::onGrpcReceiveWrapper` (`source/extensions/common/wasm/context.cc`).
    """
    if token not in root.grpc_tokens:
        return
    root.buffers = {BufferType.GRPC_RECEIVE_BUFFER: Buffer(message, writable=False)}
    try:
        root.notify("proxy_on_grpc_receive", token, len(message))
    finally:
        root.buffers = {}


def deliver_grpc_answer(root: RootContext, token: int, message: bytes) -> None:
    """The message of a unary call that succeeded. It is the last callback: no status follows."""
    if token not in root.grpc_tokens:
        return
    root.grpc_tokens.apply(token, GrpcInput.REMOTE_CLOSE)
    deliver_grpc_message(root, token, message)
    root.grpc_tokens.forget(token)


def deliver_grpc_close(root: RootContext, token: int, status: int, message: bytes) -> None:
    """The status of a stream, or of a unary call that failed; `get_status` has both parts of it meanwhile.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_grpc_close
    Follows: Envoy `Context::onGrpcCloseWrapper` (`source/extensions/common/wasm/context.cc`).
    """
    if token not in root.grpc_tokens:
        return
    root.grpc_tokens.apply(token, GrpcInput.REMOTE_CLOSE)
    root.status = (status, message)
    try:
        root.notify("proxy_on_grpc_close", token, status)
    finally:
        root.status = (root.status[0], b"")
        root.grpc_tokens.forget(token)
