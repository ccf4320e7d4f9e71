"""gRPC calls and streams by grpcio: one channel an upstream, made when it is first called.

Followed for failures: Envoy `source/common/grpc/async_client_impl.cc`, and what the real Envoy answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from asgi_wasm.host import callouts
from asgi_wasm.host.contexts import RootContext
from asgi_wasm.host.effects import EndCallouts, GrpcCall, GrpcCancel, GrpcEffect, GrpcSend, GrpcStream
from asgi_wasm.host.header_map import HeaderMap
from asgi_wasm.logs import get_logger
from asgi_wasm.services.tasks import Tasks
from asgi_wasm.specs import UpstreamSpec

if TYPE_CHECKING:
    import grpc.aio

    from asgi_wasm.host.wire import Pairs
    from asgi_wasm.services import grpc_channel

    _FindChannel = Callable[[UpstreamSpec], Awaitable[grpc.aio.Channel]]

_DEADLINE_EXCEEDED, _INTERNAL, _UNAVAILABLE = 4, 13, 14
# Envoy's router answers a timeout so, unless the server's own clock was faster.
_TIMEOUT = (_UNAVAILABLE, b"upstream request timeout")

logger = get_logger("asgi_wasm.host")


class GrpcCalls:
    """Carries out gRPC calls and streams, each in a task of the running event loop."""

    def __init__(self, upstreams: Iterable[UpstreamSpec]) -> None:
        self._upstreams = {upstream.name: upstream for upstream in upstreams}
        self._conversations: dict[tuple[RootContext, int], _Conversation] = {}
        self._tasks = Tasks()
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._told_what_is_missing = False

    def can_call(self, name: str) -> bool:
        """Whether a call to this upstream can be made: it is named, and grpcio is there. Else the log says so, once."""
        if name not in self._upstreams:
            return False
        if find_spec("grpc") is not None:
            return True
        if not self._told_what_is_missing:
            self._told_what_is_missing = True
            logger.error("a plugin makes gRPC calls, and grpcio is not installed: pip install 'asgi-wasm[grpc]'")
        return False

    def start(self, effect: GrpcEffect) -> None:
        """Carry out what a plugin asked for; what comes of it is delivered to its root context later."""
        if isinstance(effect, (GrpcCall, GrpcStream)):
            self._open(effect)
        elif isinstance(effect, EndCallouts):
            for root, token in list(self._conversations):
                if root is effect.root:
                    self._cancel(root, token)
        elif isinstance(effect, GrpcCancel):
            self._cancel(effect.root, effect.token)
        elif (conversation := self._conversations.get((effect.root, effect.token))) is not None:
            if isinstance(effect, GrpcSend):
                conversation.send(effect.message)
            if not isinstance(effect, GrpcSend) or effect.end_stream:
                conversation.end()

    def _open(self, effect: GrpcCall | GrpcStream) -> None:
        if effect.token not in effect.root.grpc_tokens:
            # Cancelled in the same callback, or its root context is gone.
            return
        key = effect.root, effect.token
        conversation = _Conversation(effect, self._upstreams[effect.upstream])
        conversation.task = self._tasks.start(conversation.run(self._channel))
        if conversation.task is not None:
            self._conversations[key] = conversation
            conversation.task.add_done_callback(lambda _: self._conversations.pop(key, None))

    def _cancel(self, root: RootContext, token: int) -> None:
        conversation = self._conversations.pop((root, token), None)
        if conversation is not None and conversation.task is not None:
            conversation.task.cancel()

    async def _channel(self, upstream: UpstreamSpec) -> grpc.aio.Channel:
        if upstream.name not in self._channels:
            # On a thread, because the first import takes a tenth of a second.
            await asyncio.to_thread(import_module, "asgi_wasm.services.grpc_channel")
            from asgi_wasm.services import grpc_channel

            if upstream.name not in self._channels:
                self._channels[upstream.name] = grpc_channel.open_channel(upstream)
        return self._channels[upstream.name]

    @property
    def under_way(self) -> bool:
        """Whether any call has not been answered. Streams may last for ever."""
        return any(conversation.is_call for conversation in self._conversations.values())

    async def close(self) -> None:
        """Cancel what is under way, and close the connections."""
        await self._tasks.close()
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    def abandon(self) -> None:
        """`close` for a worker whose event loop is closed: grpcio closes a channel that nobody has."""
        self._tasks.abandon()
        self._channels.clear()


class _Conversation:
    """One call or stream under way."""

    def __init__(self, effect: GrpcCall | GrpcStream, upstream: UpstreamSpec) -> None:
        self.task: asyncio.Task[None] | None = None
        self._effect = effect
        self._upstream = upstream
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._answer: bytes | None = None
        self.is_call = isinstance(effect, GrpcCall)
        if isinstance(effect, GrpcCall):
            self.send(effect.message)
            self.end()

    def send(self, message: bytes) -> None:
        """Send a message, once those before it are sent."""
        self._outgoing.put_nowait(message)

    def end(self) -> None:
        """Half-close."""
        self._outgoing.put_nowait(None)

    async def _messages(self) -> AsyncIterator[bytes]:
        while (message := await self._outgoing.get()) is not None:
            yield message

    async def run(self, find_channel: _FindChannel) -> None:
        """Converse, and deliver what comes. The plugin's token is answered once, whatever happens."""
        effect, plugin = self._effect, self._effect.root.spec.name
        ports = effect.root.vm.ports
        began = ports.clock.monotonic()
        metadata: Pairs = []
        try:
            status = await self._converse(await find_channel(self._upstream))
        except Exception as error:
            logger.warning("gRPC %s of %r by plugin %r: %r", effect.path, effect.upstream, plugin, error)
            code, message, outcome = _INTERNAL, type(error).__name__.encode(), "failure"
        else:
            code, message, metadata = status.code, status.message, status.metadata
            outcome = _outcome(code, message)
        finally:
            # Whoever still waits for a message to send would wait for ever.
            self.end()
        ports.host_metrics.callout_ended(plugin, effect.upstream, outcome, ports.clock.monotonic() - began)
        if isinstance(effect, GrpcStream):
            trailing = HeaderMap([(b"grpc-status", b"%d" % code), (b"grpc-message", message), *metadata])
            callouts.deliver_grpc_trailing_metadata(effect.root, effect.token, trailing)
            callouts.deliver_grpc_close(effect.root, effect.token, code, message)
        elif code == 0 and self._answer is not None:
            callouts.deliver_grpc_answer(effect.root, effect.token, self._answer)
        else:
            # Success without a message is none (Envoy `AsyncRequestImpl::onRemoteClose`).
            callouts.deliver_grpc_close(effect.root, effect.token, code or _INTERNAL, message)

    async def _converse(self, channel: grpc.aio.Channel) -> grpc_channel.Status:
        from asgi_wasm.services import grpc_channel

        upstream, effect = self._upstream, self._effect
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in upstream.headers]
        replaced = {name for name, _ in headers}
        # The channel has the settings' host as its authority.
        merged = [pair for pair in effect.metadata if pair[0] not in replaced]
        merged += [pair for pair in headers if pair[0] != b"host"]
        metadata = grpc_channel.sendable(merged, effect.root.spec.name)
        timeout = self._timeout()
        began = asyncio.get_running_loop().time()
        listener = grpc_channel.Listener(self._on_initial, self._on_message)
        status = await grpc_channel.converse(channel, effect.path, metadata, self._messages(), timeout, listener)
        if status.code == _DEADLINE_EXCEEDED and timeout and asyncio.get_running_loop().time() - began >= timeout:
            return grpc_channel.Status(*_TIMEOUT, [])
        return status

    def _timeout(self) -> float | None:
        # A stream may last for ever, as in Envoy.
        if isinstance(self._effect, GrpcStream):
            return None
        return self._upstream.seconds(self._effect.timeout_milliseconds)

    def _on_initial(self, metadata: Pairs) -> None:
        if isinstance(self._effect, GrpcStream):
            callouts.deliver_grpc_initial_metadata(self._effect.root, self._effect.token, HeaderMap(metadata))

    def _on_message(self, message: bytes) -> None:
        if isinstance(self._effect, GrpcStream):
            callouts.deliver_grpc_message(self._effect.root, self._effect.token, message)
        else:
            # The last one counts, as in Envoy.
            self._answer = message


def _outcome(code: int, message: bytes) -> str:
    """For `HostMetrics.callout_ended`: a server's own error is a response too."""
    if (code, message) == _TIMEOUT:
        return "timeout"
    return "connection_failure" if code == _UNAVAILABLE else "response"
