"""gRPC services that a test plays: what a plugin calls is matched by its path, answered and kept.

The rules of gRPC are those of the host itself (`services.callouts.grpc.conversation`); here is the other end.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.datastructures import Headers

from asgi_wasm.services.callouts.grpc import status as grpc_status
from asgi_wasm.services.callouts.grpc.conversation import Conversation
from asgi_wasm.services.callouts.grpc.messages import MessageDecoder
from asgi_wasm.testing.exchange import GivenHeaders, encoded
from asgi_wasm.testing.unexpected import UnexpectedCallError

_PREFIX = struct.Struct(">BI")
_MOST = 1 << 31
_HEAD = ((b":status", b"200"), (b"content-type", b"application/grpc"))


class GrpcStream:
    """A call or a stream that a plugin has opened; the methods are the service's side of it.

    What the service sends arrives when the event loop runs next: in a test without asyncio, by ``advance(0)``.
    """

    def __init__(self, conversation: Conversation, timeout: float | None) -> None:
        effect = conversation.effect
        self.path = effect.path
        self.metadata = Headers(raw=list(effect.metadata))
        # Seconds, as the plugin gave them; None for a stream, and for no timeout.
        self.timeout = timeout
        self.is_call = conversation.is_call
        # What the plugin has sent, and whether it has said that no more will come, or cancelled it.
        self.messages: list[bytes] = []
        self.is_closed = False
        self.is_over = False
        self.on_end_of_messages: Callable[[], None] | None = None
        self._decoder = MessageDecoder(_MOST)
        self._has_headers = False
        self._conversation = conversation
        self._loop = asyncio.get_running_loop()
        conversation.carrier = _Carrier(self)

    # --- the service's side

    def begin(self, headers: GivenHeaders = ()) -> None:
        """Send the initial metadata; `send` and `end` do it by themselves."""
        if not self._has_headers:
            self._has_headers = True
            fields = [*_HEAD, *encoded(headers)]
            self._soon(lambda conversation: conversation.receive_headers(fields, is_last=False))

    def send(self, *messages: bytes) -> None:
        """Send messages."""
        self.begin()
        for message in messages:
            data = _PREFIX.pack(0, len(message)) + message
            self._soon(lambda conversation, data=data: _exhaust(conversation, data))  # type: ignore[misc]

    def end(self, status: int = 0, message: str = "", trailers: GivenHeaders = ()) -> None:
        """Send the status, which ends it."""
        fields = [(b"grpc-status", b"%d" % status), *encoded(trailers)]
        if message:
            fields.insert(1, (b"grpc-message", message.encode()))
        self.begin()
        self._soon(lambda conversation: conversation.receive_trailers(fields))

    def reset(self) -> None:
        """Break it off."""
        self._soon(lambda conversation: conversation.break_off(grpc_status.REMOTE_RESET))

    def refuse(self) -> None:
        """There is no connection."""
        self._soon(lambda conversation: conversation.break_off(grpc_status.NO_CONNECTION, "connection_failure"))

    def expire(self) -> None:
        """Its time is over."""
        self._soon(lambda conversation: conversation.expire())

    def _soon(self, act: Callable[[Conversation], None]) -> None:
        def acting() -> None:
            if not self.is_over:
                act(self._conversation)

        self._loop.call_soon(acting)

    def take(self) -> None:
        """Take what the plugin has sent so far."""
        data, is_end = self._conversation.outgoing.take(_MOST)
        self.messages += self._decoder.feed(data)
        if is_end and not self.is_closed:
            self.is_closed = True
            if self.on_end_of_messages is not None:
                self.on_end_of_messages()


class _Carrier:
    """`services.callouts.grpc.conversation.Carrier` of a `GrpcStream`."""

    def __init__(self, call: GrpcStream) -> None:
        self._call = call

    def send(self, conversation: Conversation) -> None:
        """There is something new to take."""
        self._call.take()

    def drop(self, conversation: Conversation) -> None:
        """It is over."""
        self._call.is_over = True


def _exhaust(conversation: Conversation, data: bytes) -> None:
    for _ in conversation.receive_data(data):
        pass


_Reply = Callable[[GrpcStream], None]


@dataclass
class ExpectedGrpc:
    """What a service does with the calls that match; it is made by `TestGrpc.on`. ``calls`` are those.

    Several answers in a row happen one after another, and the last one again and again.
    """

    path: str | None
    metadata: list[tuple[bytes, bytes]]
    calls: list[GrpcStream] = field(default_factory=list)
    _replies: list[_Reply] = field(default_factory=list)

    def matches(self, call: GrpcStream) -> bool:
        """Whether it is meant."""
        if self.path is not None and self.path not in (call.path, call.path.rpartition("/")[2]):
            return False
        return all(pair in call.metadata.raw for pair in self.metadata)

    @property
    def called(self) -> bool:
        """Whether there was any."""
        return bool(self.calls)

    def respond(
        self,
        *messages: bytes,
        status: int = 0,
        message: str = "",
        headers: GivenHeaders = (),
        trailers: GivenHeaders = (),
    ) -> ExpectedGrpc:
        """Answer when the plugin has sent all that it sends: a call at once, a stream when it is half-closed."""

        def reply(call: GrpcStream) -> None:
            call.begin(headers)
            call.send(*messages)
            call.end(status, message, trailers)

        def later(call: GrpcStream) -> None:
            call.on_end_of_messages = lambda: reply(call)

        return self._then(later)

    def fail(self) -> ExpectedGrpc:
        """There is no connection: status 14, UNAVAILABLE."""
        return self._then(GrpcStream.refuse)

    def reset(self) -> ExpectedGrpc:
        """Break it off before anything was answered."""
        return self._then(GrpcStream.reset)

    def time_out(self) -> ExpectedGrpc:
        """Take longer than the plugin waits, at once."""
        return self._then(GrpcStream.expire)

    def hang(self) -> ExpectedGrpc:
        """Answer nothing by itself: until the clock is moved past the timeout, or the test sends on `calls[0]`."""
        return self._then(lambda _call: None)

    def _then(self, reply: _Reply) -> ExpectedGrpc:
        self._replies.append(reply)
        return self

    def begin(self, call: GrpcStream) -> None:
        """Do the next of what was given."""
        self.calls.append(call)
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0] if self._replies else None
        (reply or GrpcStream.refuse)(call)


class TestGrpc:
    """The gRPC services of one upstream. Without any ``on`` every call gets what ``respond`` and the others say."""

    # Not for pytest to collect.
    __test__ = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[GrpcStream] = []
        self._expected: list[ExpectedGrpc] = []
        self._unexpected: list[GrpcStream] = []

    def on(self, path: str | None = None, metadata: GivenHeaders = ()) -> ExpectedGrpc:
        """What to do with calls of this method that have this metadata; the last that matches counts.

        ``path`` is ``/package.Service/Method``, or the method alone.
        """
        made = ExpectedGrpc(path, encoded(metadata))
        self._expected.append(made)
        return made

    def respond(
        self,
        *messages: bytes,
        status: int = 0,
        message: str = "",
        headers: GivenHeaders = (),
        trailers: GivenHeaders = (),
    ) -> ExpectedGrpc:
        """Answer every call with this."""
        return self.on().respond(*messages, status=status, message=message, headers=headers, trailers=trailers)

    def fail(self) -> ExpectedGrpc:
        """There is no connection for any."""
        return self.on().fail()

    def time_out(self) -> ExpectedGrpc:
        """Let every call time out at once."""
        return self.on().time_out()

    def hang(self) -> ExpectedGrpc:
        """Answer nothing by itself."""
        return self.on().hang()

    def check(self) -> None:
        """Raises `UnexpectedCallError`, once for each call."""
        if self._unexpected:
            call = self._unexpected.pop(0)
            raise UnexpectedCallError(
                f"the plugin called gRPC {call.path} of the upstream {self.name!r}, for which the test has no answer:"
                f" say plugin.upstream({self.name!r}).grpc.respond(...), .grpc.on(...).respond(...) or .grpc.fail()"
            )

    # --- services.callouts.grpc.calls.Way

    def open(self, conversation: Conversation, timeout: float | None) -> None:
        """Begin it as soon as the callback that asked for it is over."""
        asyncio.get_running_loop().call_soon(self._open, conversation, timeout)

    def _open(self, conversation: Conversation, timeout: float | None) -> None:
        if conversation.is_over:
            return
        call = GrpcStream(conversation, timeout)
        self.calls.append(call)
        expected = next((each for each in reversed(self._expected) if each.matches(call)), None)
        if expected is None:
            self._unexpected.append(call)
            call.refuse()
        else:
            expected.begin(call)
        call.take()

    async def close(self) -> None:
        """Nothing to close."""
