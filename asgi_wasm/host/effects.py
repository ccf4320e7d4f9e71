"""What a plugin asked for that cannot happen inside the hostcall: left on the VM, carried out after the callback.

So a callback is atomic, and nothing re-enters the guest while it runs.
Followed: proxy-wasm-cpp-host `WasmBase::addAfterVmCallAction`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asgi_wasm.host.abi import StreamType

if TYPE_CHECKING:
    from asgi_wasm.host.codecs.wire import Pairs
    from asgi_wasm.host.plugin import Plugin
    from asgi_wasm.host.vm.contexts import RootContext, StreamContext


@dataclass(frozen=True)
class ContinueStream:
    """Resume one direction of a stream (`proxy_continue_stream`)."""

    context: StreamContext
    stream_type: StreamType


@dataclass(frozen=True)
class CloseStream:
    """Reset a stream (`proxy_close_stream`)."""

    context: StreamContext
    stream_type: StreamType


@dataclass(frozen=True)
class LocalResponse:
    """Answer the client in the app's stead (`proxy_send_local_response`). ``grpc_status`` is None when not given."""

    context: StreamContext
    status_code: int
    details: bytes
    body: bytes
    headers: Pairs
    grpc_status: int | None


@dataclass(frozen=True)
class SetTickPeriod:
    """Call `proxy_on_tick` every ``milliseconds``; 0 stops it."""

    root: RootContext
    milliseconds: int


@dataclass(frozen=True)
class HttpCall:
    """Send a request to a named upstream (`proxy_http_call`); the answer goes to ``root`` under ``token``.

    ``timeout_milliseconds`` is 0 for none. ``headers`` include ``:method``, ``:path`` and ``:authority``. ``stream_id``
    is the stream context that asked for it, or 0.
    """

    root: RootContext
    token: int
    upstream: str
    headers: Pairs
    body: bytes
    trailers: Pairs
    timeout_milliseconds: int
    stream_id: int = 0


@dataclass(frozen=True)
class ForeignCall:
    """Run an asynchronous foreign function. Its answer goes to ``root`` under ``function_id``."""

    root: RootContext
    function_id: int
    name: str
    function: Callable[[bytes], Awaitable[bytes | None]]
    arguments: bytes


@dataclass(frozen=True)
class GrpcCall:
    """Make a unary call of a named upstream (`proxy_grpc_call`); one answer goes to ``root`` under ``token``.

    ``path`` is ``/service/method``; ``timeout_milliseconds`` is 0 for none; ``stream_id`` is as in `HttpCall`.
    """

    root: RootContext
    token: int
    upstream: str
    path: str
    metadata: Pairs
    message: bytes
    timeout_milliseconds: int
    stream_id: int = 0


@dataclass(frozen=True)
class GrpcStream:
    """Open a stream to a named upstream (`proxy_grpc_stream`); ``stream_id`` is as in `HttpCall`."""

    root: RootContext
    token: int
    upstream: str
    path: str
    metadata: Pairs
    stream_id: int = 0


@dataclass(frozen=True)
class GrpcSend:
    """Send a message on a stream, and half-close it if this is the last one (`proxy_grpc_send`)."""

    root: RootContext
    token: int
    message: bytes
    end_stream: bool


@dataclass(frozen=True)
class GrpcClose:
    """Half-close a stream (`proxy_grpc_close`)."""

    root: RootContext
    token: int


@dataclass(frozen=True)
class GrpcCancel:
    """Reset a call or stream (`proxy_grpc_cancel`): nothing more is delivered."""

    root: RootContext
    token: int


@dataclass(frozen=True)
class EndCallouts:
    """Cancel the HTTP and gRPC calls, the streams and the ticks of a root context that is gone."""

    root: RootContext


@dataclass(frozen=True)
class EndStreamCallouts:
    """End the calls and gRPC streams that a stream context has asked for: its client has gone.

    They have failed, to the plugin.
    """

    root: RootContext
    stream_id: int


@dataclass(frozen=True)
class DeleteRoot:
    """End a root context that has said `proxy_done`."""

    root: RootContext


@dataclass(frozen=True)
class StartAgain:
    """Put another in the place of a service's ``root``, whose VM failed: no request asks for it.

    Not before its `Recovery` allows it.
    """

    root: RootContext
    plugin: Plugin


StreamEffect = ContinueStream | CloseStream | LocalResponse
GrpcEffect = GrpcCall | GrpcStream | GrpcSend | GrpcClose | GrpcCancel | EndCallouts
RootEffect = SetTickPeriod | HttpCall | ForeignCall | GrpcEffect | EndStreamCallouts | StartAgain
Effect = StreamEffect | RootEffect | DeleteRoot
