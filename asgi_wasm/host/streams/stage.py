"""What one direction of a stream is made of: its filters' stages, its far end, and whom it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from asgi_wasm.host.streams.iteration import TRANSITIONS, Action, Input, State

if TYPE_CHECKING:
    from asgi_wasm.host.streams.header_map import HeaderMap
    from asgi_wasm.host.vm.contexts import StreamContext


def growing(data: bytes | bytearray) -> bytearray:
    """What can be added to in place."""
    return data if isinstance(data, bytearray) else bytearray(data)


class Way(Protocol):
    """What a direction tells its far end of what filters do to a body's length (`host.streams.direction.Direction`)."""

    @property
    def balance(self) -> int:
        """By how many bytes filters have made the body longer so far; less than 0 when shorter."""
        ...

    @property
    def unbalanced(self) -> list[str]:
        """The names of the plugins that did."""
        ...


class Sink(Protocol):
    """The far end of a direction: the app for a request, the client for a response."""

    def headers(self, headers: HeaderMap, end_of_stream: bool) -> None:
        """All filters let the headers pass. Called once, first."""
        ...

    def data(self, data: bytes, end_of_stream: bool) -> None:
        """A piece of the body that all filters let pass."""
        ...

    def trailers(self, trailers: HeaderMap) -> None:
        """The trailers, which end the stream."""
        ...


class ResponseSink(Sink, Protocol):
    """The client's side, which also knows whether an answer may still be changed."""

    def received(self, size: int | None, way: Way) -> None:
        """A response begins on its ``way``: a local one with a body of this ``size``, or (None) the app's."""
        ...

    @property
    def started(self) -> bool:
        """Whether the response's head is on its way to the client."""
        ...

    def reset(self, reason: str) -> None:
        """End the connection without a whole response."""
        ...


class Owner(Protocol):
    """What a direction asks of the chain that it is part of."""

    def open(self, stage: Stage) -> StreamContext | None:
        """The filter's context, made now if need be; None when it cannot be made and the stage is to be skipped."""
        ...

    def failed(self, context: StreamContext) -> None:
        """The context's VM failed in a callback."""
        ...

    def overflow(self, direction: int) -> None:
        """A body that must be buffered is over the limit."""
        ...


class Stage:
    """One filter in one direction: how far it is, and what it holds back."""

    __slots__ = (
        "buffering",
        "context",
        "end",
        "given",
        "headers_ended",
        "headers_passed",
        "held",
        "holds_body",
        "index",
        "skipped",
        "state",
        "taken",
        "trailers",
        "watermark",
    )

    def __init__(self, index: int, context: StreamContext | None = None) -> None:
        self.index = index
        self.context = context
        self.state = State.CONTINUE
        self.headers_passed = False
        # The headers that it holds were told to be the end.
        self.headers_ended = False
        # Grows in place: a copy for each piece would take time by the square of their number.
        self.held = bytearray()
        # It holds a part of the body, be it an empty one.
        self.holds_body = False
        # Bytes of the body that came to the filter, and that it let go.
        self.taken = self.given = 0
        # The stream's end is behind what is held.
        self.end = False
        # No context could be made for the filter.
        self.skipped = False
        self.trailers: HeaderMap | None = None
        # The body callback is shown all that is held, not only what is new.
        self.buffering = False
        # Too much held means "read no further" instead of "fail".
        self.watermark = False

    def advance(self, event: Input) -> Action:
        """Take one transition of the table."""
        self.state, action = TRANSITIONS[self.state, event]
        return action

    def take_back(self, direction: int) -> None:
        """Let the filter no longer change what it holds; it may have been changed since it was held."""
        context = self.context
        if self.buffering and context is not None:
            lent, context.bodies[direction] = context.bodies[direction], None
            if lent is not None:
                self.held = growing(lent.data)

    def balance(self, direction: int) -> int:
        """By how many bytes the filter has made the body longer so far; less than 0 when shorter."""
        context = self.context
        lent = context.bodies[direction] if self.buffering and context is not None else None
        return self.given + len(self.held if lent is None else lent) - self.taken

    def settle(self) -> None:
        """Carry out what the last callback asked for besides its verdict."""
        if self.context is not None and self.context.vm.effects:
            self.context.vm.perform()
