"""What a plugin asked for that cannot happen inside the hostcall: left on the VM, carried out after the callback.

So a callback is atomic, and nothing re-enters the guest while it runs.
Followed: proxy-wasm-cpp-host `WasmBase::addAfterVmCallAction`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asgi_wasm.host.abi import StreamType
from asgi_wasm.host.ports import Effect

if TYPE_CHECKING:
    from asgi_wasm.host.codecs.wire import Pairs
    from asgi_wasm.host.recovery import Recovery
    from asgi_wasm.host.vm.contexts import RootContext, StreamContext


@dataclass(frozen=True)
class StreamEffect(Effect):
    """One that the stream's chain carries out."""

    context: StreamContext

    def perform(self) -> None:
        """Hand it to the chain, which knows what is still possible."""
        self.context.chain.apply(self)


@dataclass(frozen=True)
class RootEffect(Effect):
    """One that is carried out outside of the host, for a root context."""

    root: RootContext

    def perform(self) -> None:
        """Hand it to the outside, by the port."""
        self.root.has_asked = True
        self.root.vm.ports.start(self)


@dataclass(frozen=True)
class GrpcEffect(RootEffect):
    """One on a gRPC call or stream."""

    token: int


@dataclass(frozen=True)
class ContinueStream(StreamEffect):
    """Resume one direction of a stream (`proxy_continue_stream`)."""

    stream_type: StreamType


@dataclass(frozen=True)
class CloseStream(StreamEffect):
    """Reset a stream (`proxy_close_stream`)."""

    stream_type: StreamType


@dataclass(frozen=True)
class LocalResponse(StreamEffect):
    """Answer the client in the app's stead (`proxy_send_local_response`). ``grpc_status`` is None when not given."""

    status_code: int
    details: bytes
    body: bytes
    headers: Pairs
    grpc_status: int | None


@dataclass(frozen=True)
class SetTickPeriod(RootEffect):
    """Call `proxy_on_tick` every ``milliseconds``; 0 stops it."""

    milliseconds: int


@dataclass(frozen=True)
class HttpCall(RootEffect):
    """Send a request to a named upstream (`proxy_http_call`); the answer goes to ``root`` under ``token``.

    ``timeout_milliseconds`` is 0 for none. ``headers`` include ``:method``, ``:path`` and ``:authority``. ``stream_id``
    is the stream context that asked for it, or 0.
    """

    token: int
    upstream: str
    headers: Pairs
    body: bytes
    trailers: Pairs
    timeout_milliseconds: int
    stream_id: int = 0


@dataclass(frozen=True)
class ForeignCall(RootEffect):
    """Run an asynchronous foreign function. Its answer goes to ``root`` under ``function_id``."""

    function_id: int
    name: str
    function: Callable[[bytes], Awaitable[bytes | None]]
    arguments: bytes


@dataclass(frozen=True)
class GrpcCall(GrpcEffect):
    """Make a unary call of a named upstream (`proxy_grpc_call`); one answer goes to ``root`` under ``token``.

    ``path`` is ``/service/method``; ``timeout_milliseconds`` is 0 for none; ``stream_id`` is as in `HttpCall`.
    """

    upstream: str
    path: str
    metadata: Pairs
    message: bytes
    timeout_milliseconds: int
    stream_id: int = 0


@dataclass(frozen=True)
class GrpcStream(GrpcEffect):
    """Open a stream to a named upstream (`proxy_grpc_stream`); ``stream_id`` is as in `HttpCall`."""

    upstream: str
    path: str
    metadata: Pairs
    stream_id: int = 0


@dataclass(frozen=True)
class GrpcSend(GrpcEffect):
    """Send a message on a stream, and half-close it if this is the last one (`proxy_grpc_send`)."""

    message: bytes
    end_stream: bool


@dataclass(frozen=True)
class GrpcClose(GrpcEffect):
    """Half-close a stream (`proxy_grpc_close`)."""


@dataclass(frozen=True)
class GrpcCancel(GrpcEffect):
    """Reset a call or stream (`proxy_grpc_cancel`): nothing more is delivered."""


@dataclass(frozen=True)
class EndCallouts(RootEffect):
    """Cancel the HTTP and gRPC calls, the streams and the ticks of a root context that is gone."""


@dataclass(frozen=True)
class EndStreamCallouts(RootEffect):
    """End the calls and gRPC streams that a stream context has asked for: its client has gone.

    They have failed, to the plugin.
    """

    stream_id: int


@dataclass(frozen=True)
class DeleteRoot(Effect):
    """End a root context that has said `proxy_done`."""

    root: RootContext

    def perform(self) -> None:
        """Run `on_delete`, and forget the root context."""
        self.root.vm.delete(self.root)


@dataclass(frozen=True)
class StartAgain(RootEffect):
    """Put another in the place of a ``root`` whose VM failed: of a service, which no request asks for, or of the owner
    of a queue, which others fill.

    Not before its ``recovery`` allows it; ``start`` raises `PluginError`.
    """

    recovery: Recovery
    start: Callable[[], object]
