"""gRPC calls and streams of plugins: which are under way, and how many may be.

What comes of one is `conversation`'s, the way to its upstream `channel`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import Any, Protocol

from asgi_wasm.host.effects import (
    EndCallouts,
    EndStreamCallouts,
    GrpcCall,
    GrpcCancel,
    GrpcClose,
    GrpcEffect,
    GrpcSend,
    GrpcStream,
)
from asgi_wasm.host.ports import NANOSECOND
from asgi_wasm.host.vm.contexts import RootContext
from asgi_wasm.host.vm.grpc_tokens import cost
from asgi_wasm.logs import get_logger
from asgi_wasm.services.callouts.deadline import CallLater
from asgi_wasm.services.callouts.grpc import status as grpc_status
from asgi_wasm.services.callouts.grpc.channel import Channel
from asgi_wasm.services.callouts.grpc.conversation import Conversation
from asgi_wasm.services.callouts.grpc.messages import Memory
from asgi_wasm.services.tasks import ByStream
from asgi_wasm.specs import UpstreamSpec

# Envoy's circuit breaker: `max_requests` of a cluster.
MAX_CALLS = 1024
# Bytes of messages of all plugins that no server has taken yet: what four of them may have by default.
MAX_UNSENT_BYTES = 256 * 1024 * 1024

logger = get_logger("asgi_wasm.host")


class Way(Protocol):
    """The way to one upstream."""

    def open(self, conversation: Conversation, timeout: float | None) -> None:
        """Carry it, later than now. ``timeout`` (seconds) is told to the server."""
        ...

    async def close(self) -> None:
        """End its connections. What they carry has been cancelled."""
        ...


class GrpcCalls:
    """Carries out gRPC calls and streams on the running event loop."""

    def __init__(self, upstreams: Iterable[UpstreamSpec], call_later: CallLater | None = None) -> None:
        """``call_later`` is used for timeouts in place of the event loop's."""
        self._upstreams: dict[str, UpstreamSpec] = {}
        self._channels: dict[str, Way] = {}
        self._under_way: dict[str, int] = {}
        self._call_later = call_later
        for upstream in upstreams:
            self.add(upstream, Channel(upstream))
        self._conversations: dict[tuple[RootContext, int], Conversation] = {}
        self._by_stream: ByStream[Conversation] = ByStream()
        self._memory = Memory()
        self._told_what_is_missing = False
        self._is_closed = False

    def add(self, upstream: UpstreamSpec, way: Way) -> None:
        """Let one more be called."""
        self._upstreams[upstream.name], self._channels[upstream.name] = upstream, way
        self._under_way[upstream.name] = 0

    def can_call(self, name: str) -> bool:
        """Whether a call to this upstream can be made: it is named, and h2 is there. Else the log says so, once."""
        if name not in self._upstreams:
            return False
        if find_spec("h2") is not None:
            return True
        if not self._told_what_is_missing:
            self._told_what_is_missing = True
            logger.error("a plugin makes gRPC calls, and h2 is not installed: pip install 'asgi-wasm[grpc]'")
        return False

    def has_room(self, name: str) -> bool:
        """Whether one more call of all plugins to this upstream may be under way."""
        return self._under_way[name] < MAX_CALLS

    def may_send(self, size: int) -> bool:
        """Whether a message of so many bytes may wait for its server beside those that do, of all plugins."""
        return self._memory.unsent + size <= MAX_UNSENT_BYTES

    def leave(self, effect: EndStreamCallouts) -> None:
        """End the calls and streams of a stream context whose client has gone: to its plugin they are cancelled.

        In Envoy they are the root context's, and go on. A stream without a timeout would do so for ever.
        """
        for conversation in self._by_stream.of(effect.root, effect.stream_id):
            # Not at once: a callback of the plugin may be what tells of it.
            asyncio.get_running_loop().call_soon(conversation.leave)

    def start(self, effect: GrpcEffect) -> None:
        """Carry out what a plugin asked for; what comes of it is delivered to its root context later."""
        STARTED_BY[type(effect)](self, effect)

    def end(self, effect: EndCallouts) -> None:
        """Cancel the calls and streams of a root context that is gone."""
        for each in [each for (whose, _), each in self._conversations.items() if whose is effect.root]:
            each.cancel()

    def _open(self, effect: GrpcCall | GrpcStream) -> None:
        tokens, upstream = effect.root.grpc_tokens, self._upstreams[effect.upstream]
        if self._is_closed or effect.token not in tokens:
            # A plugin may ask for more while it is told of its end; or it cancelled it in the same callback.
            tokens.unsent -= cost(effect.message) if isinstance(effect, GrpcCall) else 0
            return
        conversation = Conversation(effect, upstream.message_limit, self._memory, self._on_end)
        self._conversations[effect.root, effect.token] = conversation
        self._by_stream.add(effect.root, effect.stream_id, conversation)
        self._under_way[effect.upstream] += 1
        if isinstance(effect, GrpcCall):
            conversation.send(effect.message, is_last=True)
        if self._under_way[effect.upstream] > MAX_CALLS:
            # Asked for in one callback. Not answered at once: others of its effects may still have to be begun.
            asyncio.get_running_loop().call_soon(conversation.break_off, grpc_status.OVERFLOW)
            return
        # A stream may last for ever, as in Envoy.
        timeout = upstream.timeout_of(effect.timeout_milliseconds) if isinstance(effect, GrpcCall) else None
        conversation.set_timeout(timeout, self._call_later)
        self._channels[effect.upstream].open(conversation, timeout)

    def _send(self, effect: GrpcSend) -> None:
        conversation = self._conversations.get((effect.root, effect.token))
        if conversation is None:
            effect.root.grpc_tokens.unsent -= cost(effect.message)
        else:
            conversation.send(effect.message, is_last=effect.end_stream)

    def _half_close(self, effect: GrpcClose) -> None:
        conversation = self._conversations.get((effect.root, effect.token))
        if conversation is not None:
            conversation.send(None, is_last=True)

    def _reset(self, effect: GrpcCancel) -> None:
        conversation = self._conversations.get((effect.root, effect.token))
        if conversation is not None:
            conversation.cancel()

    def _on_end(self, conversation: Conversation, outcome: str | None) -> None:
        effect = conversation.effect
        del self._conversations[effect.root, effect.token]
        self._under_way[effect.upstream] -= 1
        self._by_stream.discard(effect.root, effect.stream_id, conversation)
        if outcome is not None:
            ports = effect.root.vm.ports
            took = (ports.clock.monotonic() - conversation.began) * NANOSECOND
            ports.host_metrics.callout_ended(effect.root.spec.name, effect.upstream, outcome, took)

    @property
    def under_way(self) -> bool:
        """Whether any call has not been answered. Streams may last for ever."""
        return any(conversation.is_call for conversation in self._conversations.values())

    async def close(self) -> None:
        """Cancel what is under way, and close the connections."""
        self._is_closed = True
        for conversation in list(self._conversations.values()):
            conversation.cancel()
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))

    def abandon(self) -> None:
        """`close` for a worker whose event loop is closed, and its connections with it."""
        self._is_closed = True
        self._conversations.clear()
        self._by_stream.clear()
        self._channels.clear()


# Every effect on a call or stream, and what carries it out.
STARTED_BY: Mapping[type[GrpcEffect], Callable[[GrpcCalls, Any], None]] = {
    GrpcCall: GrpcCalls._open,
    GrpcStream: GrpcCalls._open,
    GrpcSend: GrpcCalls._send,
    GrpcClose: GrpcCalls._half_close,
    GrpcCancel: GrpcCalls._reset,
}
