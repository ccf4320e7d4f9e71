"""The two far ends of a filter chain: messages for the app, messages for the client."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from asgi_wasm.asgi.exchange.states import STARTED, TO_CLIENT, Part, ResponseState
from asgi_wasm.asgi.messages.lengths import Length, ResponseLength, TooShortError, said_by
from asgi_wasm.asgi.messages.translate import header_pairs, sendable_trailers, start_message, without_hop_fields

if TYPE_CHECKING:
    from asgi_wasm.asgi.exchange.progress import Progress
    from asgi_wasm.asgi.types import Message
    from asgi_wasm.host.streams.header_map import HeaderMap
    from asgi_wasm.host.streams.stage import Way

Changed = Callable[[], None]
_NO_TRAILERS = [(b"x-trailers", b"none")]


class RequestSide:
    """What the chain let pass to the app (`host.streams.stage.Sink`).

    ``changed`` is called whenever that grows; ``broken``, with the reason, when the body cannot become whole.
    """

    def __init__(self, changed: Changed, broken: Callable[[str], None]) -> None:
        self.forwarded = False
        # The app has been given, or will find in `messages`, the end of the body.
        self.ended = False
        self.messages: deque[Message] = deque()
        self.length = Length()
        self._changed = changed
        self._broken = broken

    def run(self, progress: Progress, fields: Iterable[tuple[bytes, bytes]], way: Way) -> None:
        """The app runs already: take over so much of a body, of which it was told what these fields say."""
        self.forwarded = True
        if progress.shows_body:
            self.length.own = self.length.announced = said_by(fields)
            self.length.way = way

    def adopt(self, progress: Progress) -> None:
        """Take over so much of a body as all plugins have let pass."""
        self.ended = progress.client_ended
        self.messages.extend(progress.unread)
        self.length.passed = progress.bytes_in

    @property
    def size(self) -> int | None:
        """That of the whole body, before the app has taken any of it; None while there may come more."""
        return sum(len(message["body"]) for message in self.messages) if self.ended else None

    def headers(self, headers: HeaderMap, end_of_stream: bool) -> None:
        """The app may be called."""
        self.forwarded, self.ended = True, end_of_stream
        self._changed()

    def data(self, data: bytes, end_of_stream: bool) -> None:
        """A piece of the body for the app."""
        try:
            data = self.length.admit(data, end_of_stream)
        except TooShortError as error:
            self._broken(str(error))
            return
        if data or end_of_stream:
            self.ended = end_of_stream
            self.messages.append({"type": "http.request", "body": data, "more_body": not end_of_stream})
            self._changed()

    def trailers(self, trailers: HeaderMap) -> None:
        """ASGI has no request trailers: they end here, and end the body."""
        self.data(b"", True)


class ResponseSide:
    """What the chain let pass to the client (`host.streams.stage.ResponseSink`).

    ``changed`` is called whenever `messages` grows, and at a reset; ``dropped`` hears of headers that cannot be sent.
    ``method`` is the client's own, which decides whether it expects a body, as ``version`` is that of its HTTP.
    """

    def __init__(
        self,
        method: str,
        changed: Changed,
        dropped: Callable[[list[bytes]], None],
        *,
        trailers: bool,
        version: str = "1.1",
    ) -> None:
        self.messages: deque[Message] = deque()
        self.state = ResponseState.IDLE
        # Why the connection is to be cut, once it is.
        self.reset_reason: str | None = None
        self.bytes_out = 0
        self.length = ResponseLength()
        self.length.method = method
        self._changed = changed
        self._dropped = dropped
        self._can_send_trailers = trailers
        # A stream of HTTP/2 or later ends without its connection.
        self._multiplexed = version[:1] not in ("0", "1")
        self._promised_trailers = False
        # The app's own start message, whose extra keys are kept, unless a local response takes its headers' place.
        self._original: Message | None = None
        self._original_headers: HeaderMap | None = None
        # Whether some filter may change the body.
        self.may_change = True
        # What is held, while it is.
        self._head: HeaderMap | None = None

    @property
    def started(self) -> bool:
        """Whether the client has been sent a head."""
        return self.state in STARTED

    @property
    def complete(self) -> bool:
        """Whether all of the response is on its way to the client."""
        return self.state is ResponseState.DONE

    def begin(self, original: Message, headers: HeaderMap, *, may_change: bool) -> None:
        """The app starts a response, of which plugins are shown these headers. Some ``may_change`` its body."""
        self._original, self._original_headers, self.may_change = original, headers, may_change
        # An iterable may have been read already; ours are none that plugins have changed then.
        fields = original.get("headers")
        self.length.own = said_by(fields if type(fields) is list else headers.pairs)

    def adopt(self, progress: Progress, headers: HeaderMap, *, may_change: bool) -> None:
        """Take over a response whose head, unless it is held, and so much of its body are on their way already."""
        assert progress.response is not None
        self.begin(progress.response, headers, may_change=may_change)
        self.bytes_out = progress.bytes_out
        if progress.held and may_change:
            self.state, self._head = ResponseState.HELD, headers
            return
        if progress.held:
            # What comes next may be nothing that plugins see (pathsend).
            self.headers(headers, end_of_stream=False)
            return
        self.state = ResponseState.DONE if progress.complete else ResponseState.BODY
        if may_change:
            # A head that went out in the lane says what the app's own says.
            self.length.announced, self.length.passed = self.length.own, progress.bytes_out

    def received(self, size: int | None, way: Way) -> None:
        """Note what its length is made of: the whole ``size`` where it is known, and the filters on its ``way``."""
        length, original = self.length, self._original
        length.way = way
        if size is not None or original is None:
            length.own = size
            self.may_change = True
        else:
            length.own_status = original["status"]

    def headers(self, headers: HeaderMap, end_of_stream: bool) -> None:
        """The head goes out at once, so that streams stay live, unless a plugin may change a sized body.

        Then it waits for the first verdict on the body, so that its length can be made true.
        """
        if end_of_stream:
            self.state = TO_CLIENT[self.state, Part.ONLY_HEAD]
            self._start(headers, ends=True)
            self.messages.append({"type": "http.response.body", "body": b"", "more_body": False})
        elif self.may_change and self.length.own is not None:
            self.state = TO_CLIENT[self.state, Part.HELD_HEAD]
            self._head = headers
        else:
            self.state = TO_CLIENT[self.state, Part.HEAD]
            self._start(headers)
        self._changed()

    def data(self, data: bytes, end_of_stream: bool) -> None:
        """A piece of the body; the first one settles what the head says of its length."""
        if self._head is not None:
            self.state = TO_CLIENT[self.state, Part.HEAD]
            self._start(self._head, size=len(data) if end_of_stream else None)
        self._put(data, end_of_stream)
        self._changed()

    def trailers(self, trailers: HeaderMap) -> None:
        """Trailers, where the server takes them and the head announced them; else they end here."""
        if self._head is not None:
            self.state = TO_CLIENT[self.state, Part.HEAD]
            self._start(self._head, size=0)
        self._put(b"", end=True)
        if self._promised_trailers and self.state is ResponseState.DONE:
            fields, dropped = sendable_trailers(trailers)
            # They were promised, and a server may be unable to end a stream with none (hypercorn, by h2).
            message = {"type": "http.response.trailers", "headers": fields or _NO_TRAILERS, "more_trailers": False}
            self.messages.append(message)
            if dropped:
                self._dropped(dropped)
        self._changed()

    def unseen(self, message: Message) -> None:
        """A piece of the body that plugins do not see (`pathsend`, `zerocopysend`), after the head has gone out."""
        self.messages.append(message)
        more = message.get("more_body", False)
        part = Part.PIECE if more else Part.LAST_PIECE if self._promised_trailers else Part.END
        self.state = TO_CLIENT[self.state, part]

    def reset(self, reason: str) -> None:
        """The client's connection is to end without a whole response."""
        self.state = TO_CLIENT[self.state, Part.RESET]
        if self.state is not ResponseState.DONE:
            self.reset_reason = reason
        self._changed()

    def _start(self, head: HeaderMap, *, size: int | None = None, ends: bool = False) -> None:
        self._head = None
        message, dropped = start_message(self._original if head is self._original_headers else None, head)
        fields: list[tuple[bytes, bytes]] = message["headers"]
        message["headers"] = self.length.settle_response(
            fields, message["status"], size, may_change=self.may_change, ends=ends
        )
        if self.length.doubtful:
            dropped.append(b"content-length")
        if self._multiplexed:
            own = header_pairs(self._original) if self._original is not None else ()
            message["headers"], written = without_hop_fields(message["headers"], own)
            dropped += written
        has_body = not (ends or self.length.bodiless)
        self._promised_trailers = self._can_send_trailers and has_body and bool(message.get("trailers"))
        if not self._promised_trailers:
            message.pop("trailers", None)
        self.messages.append(message)
        if dropped:
            self._dropped(dropped)

    def _put(self, data: bytes, end: bool) -> None:
        if self.state is ResponseState.TRAILERS:
            # The body has gone out by another way.
            if end:
                self.state = TO_CLIENT[self.state, Part.END]
            return
        try:
            data = self.length.admit(data, end)
        except TooShortError as error:
            if not self._multiplexed:
                self.reset(str(error))
                return
            # No app can reset a stream; one that ends too early is malformed (RFC 9113 8.1.1).
            self.length.cut = str(error)
        self.state = TO_CLIENT[self.state, Part.END if end else Part.PIECE]
        self.bytes_out += len(data)
        if data or end:
            self.messages.append({"type": "http.response.body", "body": data, "more_body": not end})
