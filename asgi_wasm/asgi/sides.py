"""The two far ends of a filter chain: messages for the app, messages for the client."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from asgi_wasm.asgi.translate import BODILESS_STATUSES, may_have_body, response_start, sendable_trailers

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Message
    from asgi_wasm.host.header_map import HeaderMap

Changed = Callable[[], None]


class RequestSide:
    """What the chain let pass to the app (`host.stage.Sink`). ``changed`` is called whenever that grows."""

    def __init__(self, changed: Changed) -> None:
        self.forwarded = False
        # The app has been given, or will find in `messages`, the end of the body.
        self.ended = False
        self.messages: deque[Message] = deque()
        self._changed = changed

    def headers(self, headers: HeaderMap, end_of_stream: bool) -> None:
        """The app may be called."""
        self.forwarded = True
        self._changed()

    def data(self, data: bytes, end_of_stream: bool) -> None:
        """A piece of the body for the app."""
        self._put(data, more=not end_of_stream)

    def trailers(self, trailers: HeaderMap) -> None:
        """ASGI has no request trailers: they end here, and end the body."""
        self._put(b"", more=False)

    def _put(self, data: bytes, *, more: bool) -> None:
        self.ended = not more
        self.messages.append({"type": "http.request", "body": data, "more_body": more})
        self._changed()


class ResponseSide:
    """What the chain let pass to the client (`host.filter_chain.ResponseSink`).

    ``changed`` is called whenever `messages` grows, and at a reset; ``dropped`` hears of headers that cannot be sent.
    """

    def __init__(
        self, method: str, changed: Changed, dropped: Callable[[list[bytes]], None], *, trailers: bool
    ) -> None:
        self.messages: deque[Message] = deque()
        self.started = False
        self.complete = False
        # Why the connection is to be cut, once it is.
        self.reset_reason: str | None = None
        # The app's own start message, whose extra keys are kept, unless a local response takes its headers' place.
        self.original: Message | None = None
        self.original_headers: HeaderMap | None = None
        # Whether to hold the head until the first verdict on the body: see `headers`. Of a local response it is held,
        # whoever sees its body: that is known, and so the length made true.
        self.hold_head = True
        self.bytes_in = 0
        self.bytes_out = 0
        # The client's own: it decides whether the client expects a body.
        self._method = method
        self._changed = changed
        self._dropped = dropped
        self._can_send_trailers = trailers
        self._promised_trailers = False
        # A plugin made it a response that has no body: what comes of one would be read as another response.
        self._bodiless = False
        self._head: HeaderMap | None = None

    def adopt(self, original: Message, headers: HeaderMap, bytes_out: int) -> None:
        """Take over a response whose head, and so much of its body, are on their way already."""
        self.started = True
        self.original, self.original_headers = original, headers
        self.bytes_in = self.bytes_out = bytes_out

    def headers(self, headers: HeaderMap, end_of_stream: bool) -> None:
        """The head goes out at once, so that streams stay live, unless a plugin may change a sized body."""
        self._head = headers
        if end_of_stream:
            self._settle_no_body(headers)
            self._start(ends=True)
            self._end()
        elif not (self.hold_head and headers.get(b"content-length") is not None):
            self._start()
        self._changed()

    def data(self, data: bytes, end_of_stream: bool) -> None:
        """A piece of the body; the first one settles what the head says of its length."""
        self.bytes_out += len(data)
        if self._head is not None:
            self._settle_length(end_of_stream)
            self._start()
        data = b"" if self._bodiless else data
        if end_of_stream:
            self._end(data)
        elif data:
            self.messages.append({"type": "http.response.body", "body": data, "more_body": True})
        self._changed()

    def trailers(self, trailers: HeaderMap) -> None:
        """Trailers, where the server takes them and the head announced them; else they end here."""
        if self._head is not None:
            self._start()
        self._end()
        if self._promised_trailers:
            self.messages.append(
                {"type": "http.response.trailers", "headers": sendable_trailers(trailers), "more_trailers": False}
            )
        self._changed()

    def reset(self, reason: str) -> None:
        """The client's connection is to end without a whole response."""
        if not self.complete:
            self.reset_reason = reason
        self._changed()

    def _settle_no_body(self, headers: HeaderMap) -> None:
        """Say that the body is empty where that is not said, as Envoy's codec does; servers would make chunks."""
        if may_have_body(self._method, headers):
            headers.put(b"content-length", b"0")

    def _settle_length(self, end_of_stream: bool) -> None:
        head = self._head
        if head is None or head.get(b"content-length") is None:
            return
        if end_of_stream:
            head.put(b"content-length", b"%d" % self.bytes_out)
        elif self.bytes_out != self.bytes_in:
            # Changed, and more to come: only the server's own framing can tell the length now.
            head.remove(b"content-length")

    def _start(self, *, ends: bool = False) -> None:
        head, self._head = self._head, None
        if head is None:
            return
        self.started = True
        message, dropped = response_start(self.original if head is self.original_headers else None, head)
        if message["status"] in BODILESS_STATUSES and not ends:
            self._bodiless = True
            message["headers"] = [field for field in message["headers"] if field[0] != b"content-length"]
        self._promised_trailers = self._can_send_trailers and bool(message.get("trailers"))
        if not self._promised_trailers:
            message.pop("trailers", None)
        self.messages.append(message)
        if dropped:
            self._dropped(dropped)

    def _end(self, data: bytes = b"") -> None:
        self.complete = True
        self.messages.append({"type": "http.response.body", "body": data, "more_body": False})
