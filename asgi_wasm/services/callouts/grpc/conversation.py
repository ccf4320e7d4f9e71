"""One gRPC call or stream: what comes of it, by Envoy's rules, is told to the plugin; the token is answered once.

It knows no connection. Followed: Envoy `source/common/grpc/async_client_impl.cc` (`AsyncStreamImpl`,
`AsyncRequestImpl`), and `source/common/router/` for what happens before the answer begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Protocol

from asgi_wasm.host.codecs.wire import Pairs
from asgi_wasm.host.effects import GrpcCall, GrpcStream
from asgi_wasm.host.streams.header_map import HeaderMap
from asgi_wasm.host.vm import delivery
from asgi_wasm.logs import get_logger
from asgi_wasm.services.callouts.deadline import CallLater
from asgi_wasm.services.callouts.grpc import status as grpc_status
from asgi_wasm.services.callouts.grpc.messages import (
    BrokenMessageError,
    Memory,
    MessageDecoder,
    Outgoing,
    TooLargeMessageError,
)

# Bytes of messages that are not whole yet, and of answers whose status has not come, of all calls of a worker.
MAX_HELD_BYTES = 64 * 1024 * 1024

logger = get_logger("asgi_wasm.host")


class Carrier(Protocol):
    """Who carries a conversation: its channel until there is a connection, then the connection."""

    def drop(self, conversation: Conversation) -> None:
        """It is over: reset it if the peer does not know, and forget it."""

    def send(self, conversation: Conversation) -> None:
        """There is something new to send."""


class Conversation:
    """A call or stream under way. Its methods are called on the event loop, while no callback of a plugin runs."""

    def __init__(
        self,
        effect: GrpcCall | GrpcStream,
        message_limit: int,
        memory: Memory,
        on_end: Callable[[Conversation, str | None], None],
    ) -> None:
        """``on_end`` is told before the plugin is; the outcome (`HostMetrics.callout_ended`) is None if cancelled."""
        self.effect = effect
        # The clock's nanoseconds.
        self.began = effect.root.vm.ports.clock.monotonic()
        self.is_call = isinstance(effect, GrpcCall)
        self.is_over = False
        self.carrier: Carrier | None = None
        self.outgoing = Outgoing(effect.root.grpc_tokens, memory)
        self._decoder = MessageDecoder(message_limit)
        self._memory = memory
        self._held = 0
        self._on_end = on_end
        self._timer: asyncio.TimerHandle | None = None
        self._has_headers = False
        self._answer: bytes | None = None

    def set_timeout(self, seconds: float | None, call_later: CallLater | None = None) -> None:
        """End it after so long. None is never: a stream may last for ever, as in Envoy.

        ``call_later`` is used in place of the running event loop's.
        """
        if seconds is not None:
            self._timer = (call_later or asyncio.get_running_loop().call_later)(seconds, self.expire)

    def send(self, message: bytes | None, *, is_last: bool) -> None:
        """A message, or only the end of what the plugin sends."""
        if message is not None:
            self.outgoing.add(message)
        if is_last:
            self.outgoing.end()
        if self.carrier is not None:
            self.carrier.send(self)

    def receive_headers(self, fields: Pairs, *, is_last: bool) -> None:
        """The head of the answer; with ``is_last`` it is all of it (gRPC's "trailers only")."""
        http_status = dict(fields).get(b":status", b"")
        if is_last and (grpc_status.is_ok(http_status) or b"grpc-status" in dict(fields)):
            self._begin([])
            self.receive_trailers(fields)
        elif grpc_status.is_ok(http_status):
            self._begin(fields)
        else:
            self._begin([])
            self._fail(grpc_status.of_http(http_status), outcome="response")

    def receive_data(self, data: bytes) -> Iterator[None]:
        """Each message is a step, since its callback may take as long as callbacks may."""
        try:
            messages = self._decoder.feed(data)
        except BrokenMessageError:
            self._fail(grpc_status.INTERNAL)
            return
        except TooLargeMessageError as error:
            self._fail(grpc_status.RESOURCE_EXHAUSTED, str(error).encode())
            return
        for message in messages:
            if self.is_over:
                return
            if self.is_call:
                # The last one counts, as in Envoy.
                self._answer = message
            else:
                self._tell(lambda message=message: self._deliver_message(message))  # type: ignore[misc]
                yield
        self._account(self._decoder.held + len(self._answer or b""))
        if self._memory.held > MAX_HELD_BYTES and not self.is_over:
            self._fail(grpc_status.RESOURCE_EXHAUSTED, b"too many bytes of unfinished messages are held")

    def receive_trailers(self, fields: Pairs) -> None:
        """The end, as the peer wants it."""
        code, message = grpc_status.of_trailers(fields)
        self._finish(code, message, fields, "response")

    def receive_end(self) -> None:
        """The end without trailers."""
        self._fail(grpc_status.UNKNOWN, outcome="response")

    def break_off(self, reason: bytes, outcome: str = "failure") -> None:
        """It was reset, or its connection is gone; ``reason`` is in Envoy's words."""
        if self.is_over:
            return
        if self._has_headers:
            self._fail(grpc_status.INTERNAL, grpc_status.after_headers(reason), outcome)
        else:
            self._answer_locally(grpc_status.before_headers(reason), outcome)

    def leave(self) -> None:
        """The client of its request has gone."""
        self._fail(grpc_status.CANCELLED, b"the client has gone")

    def cancel(self) -> None:
        """End it, and tell the plugin nothing."""
        if not self.is_over:
            self._end(None)

    def expire(self) -> None:
        """It has taken too long."""
        if self._has_headers:
            self._fail(grpc_status.INTERNAL, grpc_status.LATE_TIMEOUT, "timeout")
        else:
            self._answer_locally(grpc_status.TIMEOUT, "timeout")

    def _begin(self, fields: Pairs) -> None:
        self._has_headers = True
        if not self.is_call:
            effect = self.effect
            self._tell(lambda: delivery.deliver_grpc_initial_metadata(effect.root, effect.token, HeaderMap(fields)))

    def _deliver_message(self, message: bytes) -> None:
        delivery.deliver_grpc_message(self.effect.root, self.effect.token, message)

    def _answer_locally(self, message: bytes, outcome: str) -> None:
        self._begin([])
        self._finish(grpc_status.UNAVAILABLE, message, grpc_status.local_trailers(message), outcome)

    def _fail(self, code: int, message: bytes = b"", outcome: str = "failure") -> None:
        self._finish(code, message, [], outcome)

    def _finish(self, code: int, message: bytes, trailing: Pairs, outcome: str) -> None:
        if self.is_over:
            return
        answer = self._answer
        self._end(outcome)
        root, token = self.effect.root, self.effect.token
        if not self.is_call:
            self._tell(lambda: delivery.deliver_grpc_trailing_metadata(root, token, HeaderMap(trailing)))
        if self.is_call and code == grpc_status.OK and answer is not None:
            self._tell(lambda: delivery.deliver_grpc_answer(root, token, answer))
        else:
            # A call's success without a message is none (Envoy `AsyncRequestImpl::onRemoteClose`).
            shown = grpc_status.INTERNAL if self.is_call and code == grpc_status.OK else code
            self._tell(lambda: delivery.deliver_grpc_close(root, token, shown, message))

    def _end(self, outcome: str | None) -> None:
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._decoder.clear()
        self._answer = None
        self._account(0)
        self.outgoing.clear()
        carrier, self.carrier = self.carrier, None
        if carrier is not None:
            carrier.drop(self)
        self._on_end(self, outcome)

    def _account(self, held: int) -> None:
        self._memory.held += held - self._held
        self._held = held

    def _tell(self, deliver: Callable[[], None]) -> None:
        """Deliver it; a bug of ours there must not take the other calls of the connection along."""
        try:
            deliver()
        except Exception:
            effect = self.effect
            spec = effect.root.spec
            known = {"plugin": spec.name, "vm_id": spec.vm_id, "context_id": effect.root.id}
            logger.exception("gRPC %s of %r by plugin %r", effect.path, effect.upstream, spec.name, extra=known)
            self.cancel()
