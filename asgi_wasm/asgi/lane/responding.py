"""What a `Request` does with the app's messages, and how it hands over to an exchange."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from asgi_wasm.asgi.exchange.app_response import SECOND_START
from asgi_wasm.asgi.exchange.endings import has_left, headers_dropped, nothing
from asgi_wasm.asgi.exchange.exchange import HttpExchange
from asgi_wasm.asgi.exchange.progress import Progress
from asgi_wasm.asgi.messages import translate
from asgi_wasm.asgi.messages.first import Told
from asgi_wasm.asgi.properties import ScopeAttributes
from asgi_wasm.host.streams.passage import Passage

if TYPE_CHECKING:
    from asgi_wasm.asgi.exchange.environment import Environment
    from asgi_wasm.asgi.lane.service import Service
    from asgi_wasm.asgi.types import Message, Receive, Scope, Send
    from asgi_wasm.host.streams.direction import PieceWay
    from asgi_wasm.host.streams.filter_chain import FilterChain
    from asgi_wasm.host.streams.header_map import HeaderMap


class Responding:
    """The half of a request that faces the client."""

    __slots__ = (
        "__weakref__",
        "attributes",
        "ended",
        "environment",
        "exchange",
        "lane",
        "passage",
        "progress",
        "scope",
        "server_receive",
        "server_send",
    )

    lane: Service
    environment: Environment
    scope: Scope
    server_receive: Receive
    server_send: Send
    exchange: HttpExchange | None
    ended: bool
    progress: Progress
    attributes: ScopeAttributes
    passage: Passage

    def finish(self) -> None:
        """End the stream for the plugins: see `HttpExchange.finish`."""
        if self.exchange is not None:
            self.exchange.finish()
            return
        if self.ended:
            return
        self.ended = True
        self.attributes.finished = True
        passage = self.passage
        if has_left(self.progress.client_gone, self.progress.complete):
            passage.leave()
        passage.finish(self.environment.log)
        if self.environment.host_metrics.enabled:
            by = "nobody" if passage.response_headers is None else "app" if passage.reply is None else "plugin"
            self.environment.host_metrics.request_ended(by)

    # --- the app's `send`

    def send(self, message: Message) -> Awaitable[None]:
        """The app's `send`. What no plugin sees goes on by the server's own awaitable."""
        if self.exchange is not None:
            return self.exchange.send(message)
        progress, kind = self.progress, message["type"]
        if kind == "http.response.body" and progress.response is not None:
            if progress.drops_body:
                progress.drops_body = bool(message.get("more_body", False))
                return nothing()
            if not progress.complete:
                if self.lane.plan.sees_body.response:
                    # It came here in the middle of a response (`leaving`).
                    return self._hand_over_and_send(message)
                progress.bytes_out += len(message.get("body", b""))
                if not message.get("more_body", False):
                    # The app may call `send` from anywhere.
                    self.passage.contexts[0].vm.check_thread()
                    progress.complete = True
                    return self._send_last(message)
            return self.server_send(message)
        if kind == "http.response.start" and (progress.response is not None or not self.ended):
            return self._send_start(message)
        if self.ended:
            return self.server_send(message)
        return self._hand_over_and_send(message)

    async def _send_last(self, message: Message) -> None:
        """The stream is over when its response is: what the app does afterwards is nothing to plugins."""
        await self.server_send(message)
        self.finish()

    def _send_start(self, message: Message) -> Awaitable[None]:
        if self.progress.response is not None:
            raise RuntimeError(SECOND_START)
        if message.get("trailers") or self.lane.plan.sees_body.response:
            return self._hand_over_and_send(message)
        if type(message.get("headers")) is not list:
            # ASGI allows any iterable, also one that can be read only once.
            message = {**message, "headers": translate.header_pairs(message)}
        headers = translate.response_headers(message)
        methods = {self.scope["method"], self.progress.method}
        if any(translate.response_ends_with_headers(method, headers) for method in methods):
            return self._hand_over_and_send(message)
        return self._send_shown(message, headers, self.passage.response(headers, False))

    def go_on_responding(self, message: Message, verdict: int | None) -> Awaitable[None]:
        """Show the app's start message to the plugins after ``passage.passed``, and send it."""
        headers = self.passage.response_headers
        assert headers is not None
        if self.lane.plan.sees_body.response or self.progress.drops_body:
            self.passage.verdict, self.progress.drops_body = verdict, False
            return self._hand_over_and_send(message)
        return self._send_shown(message, headers, self.passage.go_on_responding(headers, False, verdict))

    def send_piece(self, message: Message, way: PieceWay) -> Awaitable[None]:
        """The app's `send` for a piece of the body that some plugins have seen already."""
        if self.exchange is not None:
            return self.exchange.send(message, way)
        return self._hand_over_and_send(message, way)

    def _send_shown(self, message: Message, headers: HeaderMap, passes: bool) -> Awaitable[None]:
        if not passes:
            return self._hand_over_and_send(message)
        if headers.changed:
            if self._is_framed_anew(headers, translate.content_length(message)):
                return self._hand_over_and_send(message)
            shown, dropped = translate.response_start(message, headers)
            self._tell_dropped(dropped)
            self.progress.response = message
            return self.server_send(shown)
        self.progress.response = message
        return self.server_send(message)

    def _is_framed_anew(self, headers: HeaderMap, length: bytes | None) -> bool:
        """Whether plugins changed what says where the response ends."""
        if headers.get(b":status") != self.passage.status or headers.get(b"content-length") != length:
            return True
        return translate.is_multiplexed(self.scope) and any(name in translate.HOP_FIELDS for name, _ in headers.pairs)

    def _tell_dropped(self, names: list[bytes]) -> None:
        if names:
            headers_dropped(self.environment, self.lane.filters, names)

    # --- out of the lane

    def _exchange_for(self) -> HttpExchange:
        """The exchange that goes on from here."""
        plan, passage = self.lane.plan, self.passage
        server, progress = (self.scope, self.server_receive, self.server_send), self.progress
        told = Told(progress.client_ended and not progress.shows_body, progress.first, progress.reading)
        return HttpExchange(self.environment, plan, *server, told, passage)

    def hand_over(self) -> FilterChain:
        """Let an exchange take over in the middle of the app."""
        self.exchange = self._exchange_for()
        return self.exchange.adopt(self.progress)

    def _hand_over_and_send(self, message: Message, way: PieceWay | None = None) -> Awaitable[None]:
        self.hand_over()
        assert self.exchange is not None
        return self.exchange.send(message, way)
