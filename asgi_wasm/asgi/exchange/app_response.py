"""What the app says of its response, message by message, and what of it is for the plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi.exchange.states import FROM_APP, Part, ResponseState
from asgi_wasm.asgi.messages import translate
from asgi_wasm.asgi.own_scope import BYPASSING_EXTENSIONS
from asgi_wasm.host.streams.header_map import HeaderMap

if TYPE_CHECKING:
    from asgi_wasm.asgi.exchange.progress import Progress
    from asgi_wasm.asgi.exchange.sides import ResponseSide
    from asgi_wasm.asgi.types import Message
    from asgi_wasm.host.streams.direction import PieceWay
    from asgi_wasm.host.streams.filter_chain import FilterChain
    from asgi_wasm.host.streams.passage import Passage

SECOND_START = "Expected ASGI message 'http.response.body', but got a second 'http.response.start'."
# What an app sends after the head, by these or against the protocol.
BODY_MESSAGES = frozenset({"http.response.body", "http.response.trailers", *BYPASSING_EXTENSIONS})
# What is to come next, where the app has begun and not ended.
_EXPECTED = {ResponseState.BODY: "http.response.body", ResponseState.TRAILERS: "http.response.trailers"}
_ENDED = frozenset({ResponseState.TRAILERS, ResponseState.UNHEARD_TRAILERS, ResponseState.DONE})


class AppResponse:
    """Feeds the chain with the app's response to a request of this ``method``, as the app sees it."""

    def __init__(
        self, chain: FilterChain, to_client: ResponseSide, method: str, passage: Passage | None, *, may_change: bool
    ) -> None:
        """``passage`` is what has been done already; some plugin ``may_change`` the body."""
        self.state = ResponseState.IDLE
        self.method = method
        self._chain = chain
        self._to_client = to_client
        self._passage = passage
        self._may_change = may_change
        # The head promised trailers.
        self._promised = False
        self._trailers: list[tuple[bytes, bytes]] = []

    @property
    def body_ended(self) -> bool:
        """Whether the app has sent the last piece of its body."""
        return self.state in _ENDED

    def adopt(self, progress: Progress, headers: HeaderMap) -> None:
        """Take over a response whose head has passed all plugins: see `ResponseSide.adopt`."""
        self.state = ResponseState.DONE if progress.complete else ResponseState.BODY
        if progress.drops_body:
            self.state = FROM_APP[ResponseState.IDLE, Part.ONLY_HEAD]
        self._to_client.adopt(progress, headers, may_change=self._may_change)
        self._chain.adopt_response(headers)

    def take(self, message: Message, way: PieceWay | None) -> bool:
        """Feed a message of the app to the chain. False when it is not for the chain: the server is to have it.

        ``way`` is that of a piece of the body that some plugins have seen already.
        """
        kind = message["type"]
        if kind == "http.response.body":
            return self._take_body(message, way)
        if kind == "http.response.start":
            if self.state is not ResponseState.IDLE:
                # The server cannot tell: the first may still be held back.
                raise RuntimeError(SECOND_START)
            self._take_start(message)
            return True
        return kind == "http.response.trailers" and self._take_trailers(message)

    def _take_start(self, message: Message) -> None:
        passage = self._passage
        self._promised = bool(message.get("trailers"))
        way: dict[str, Any] = {}
        if passage is None or passage.response_headers is None:
            headers = translate.response_headers(message)
        else:
            headers, way = passage.response_headers, {"passed": passage.passed, "verdict": passage.verdict}
        self._to_client.begin(message, headers, may_change=self._may_change)
        end = not translate.may_have_body(self.method, message["status"])
        if not end and self._to_client.length.own == 0:
            end = not self._promised
        # Before anybody hears of it: what comes of it may be the end of the whole stream.
        self.state = FROM_APP[self.state, Part.ONLY_HEAD if end else Part.HEAD]
        self._chain.respond(headers, end, **way)

    def _take_body(self, message: Message, way: PieceWay | None) -> bool:
        before, more = self.state, message.get("more_body", False)
        part = Part.PIECE if more else Part.LAST_PIECE if self._promised else Part.END
        after = FROM_APP.get((before, part))
        if after is None:
            return False
        self.state = after
        response = self._chain.response
        if response is not None and before is ResponseState.BODY and not response.closed:
            data = message.get("body", b"")
            if data or part is Part.END:
                response.data(bytes(data), part is Part.END, way)
        return True

    def _take_trailers(self, message: Message) -> bool:
        before = self.state
        part = Part.TRAILERS if message.get("more_trailers", False) else Part.END
        after = FROM_APP.get((before, part)) if before in _ENDED else None
        if after is None:
            return False
        self._trailers += translate.header_pairs(message)
        self.state = after
        response = self._chain.response
        if part is Part.END and before is ResponseState.TRAILERS and response is not None and not response.closed:
            response.trailers(HeaderMap(self._trailers))
        return True

    def check_ended(self, kind: str) -> None:
        """Raise what a server would of a message in the middle of a response that this cannot go on with.

        The server itself cannot tell: what came before may still be held back, and waits for what is to come.
        """
        expected = _EXPECTED.get(self.state)
        if expected is not None:
            raise RuntimeError(f"Expected ASGI message {expected!r}, but got {kind!r}.")

    def takes_unseen(self) -> bool:
        """Whether a piece of the body may come by an extension."""
        return (self.state, Part.PIECE) in FROM_APP

    def take_unseen(self, message: Message, *, is_over: bool) -> None:
        """Such a piece, which plugins do not see, and do not ask to. ``is_over``: it cannot reach the client."""
        before, more = self.state, message.get("more_body", False)
        self.state = FROM_APP[before, Part.PIECE if more else Part.LAST_PIECE if self._promised else Part.END]
        if before is ResponseState.BODY and not is_over:
            self._to_client.unseen(message)

    def end_without_trailers(self) -> None:
        """End a response whose app promised trailers and ended without them."""
        response = self._chain.response
        if self.state is ResponseState.TRAILERS and response is not None and not response.closed:
            self.state = FROM_APP[self.state, Part.END]
            response.data(b"", True)
