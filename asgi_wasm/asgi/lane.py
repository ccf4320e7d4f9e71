"""The lane: the short way through server, plugins and app for requests on which nothing unusual happens.

It knows no rule. A request is ordinary while every plugin lets headers pass at once and looks at no body; whatever
else happens, `_Request._exchange_for` makes the `HttpExchange` that takes over what has been done so far.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from asgi_wasm.asgi import translate
from asgi_wasm.asgi.environment import Environment, guarded_scope, headers_dropped, share_scope
from asgi_wasm.asgi.exchange import SECOND_START, HttpExchange, Progress
from asgi_wasm.asgi.properties import ScopeAttributes
from asgi_wasm.host.passage import Passage
from asgi_wasm.host.plan import Plan

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Message, Receive, Scope, Send
    from asgi_wasm.host.filter_chain import FilterChain
    from asgi_wasm.host.header_map import HeaderMap
    from asgi_wasm.host.plugin import Filter

REQUEST, RESPONSE = 0, 1


class Lane:
    """One chain of filters, and the plan of what its requests need."""

    def __init__(self, environment: Environment, filters: Sequence[Filter]) -> None:
        self.environment = environment
        self.filters = filters
        self.plan = Plan.of(filters)

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request. Raises what the app raises, unless a plugin has answered already."""
        plan = self.plan
        if plan.is_straight and not plan.sees_body[RESPONSE]:
            ends_with_headers = translate.request_ends_with_headers(scope)
            if ends_with_headers or not plan.sees_body[REQUEST]:
                await _Request(self, scope, receive, send, ends_with_headers).run()
                return
        await HttpExchange(self.environment, self.filters, scope, receive, send).run()


class _Request:
    """One request in the lane, until it ends or `exchange` is there."""

    __slots__ = (
        "attributes",
        "environment",
        "exchange",
        "lane",
        "passage",
        "progress",
        "scope",
        "server_receive",
        "server_send",
    )

    def __init__(self, lane: Lane, scope: Scope, receive: Receive, send: Send, ends_with_headers: bool) -> None:
        self.lane = lane
        self.environment = lane.environment
        self.scope = scope
        self.server_receive = receive
        self.server_send = send
        self.exchange: HttpExchange | None = None
        self.progress = Progress(ends_with_headers)
        self.attributes = ScopeAttributes(scope)
        self.attributes.bytes_sent = self._bytes_sent
        self.attributes.chain = self.passage = Passage(lane.filters, self.attributes, self._hand_over)

    async def run(self) -> None:
        """See `Lane.run`."""
        headers = translate.request_headers(self.scope)
        if self.passage.request(headers, self.progress.client_ended):
            try:
                await self._call_app(headers)
            finally:
                await self._end()
        elif not await self._answer():
            await self._exchange_for().run()

    async def _answer(self) -> bool:
        """Send a plugin's answer, if that is what the request was stopped for, and all let it pass."""
        headers = self.passage.answer()
        if headers is None or not self._passes_answer(headers):
            return False
        assert self.passage.reply is not None
        message, dropped = translate.response_start(None, headers)
        self._tell_dropped(dropped)
        self.progress.bytes_out = len(self.passage.reply)
        try:
            await self.server_send(message)
            await self.server_send({"type": "http.response.body", "body": self.passage.reply, "more_body": False})
        finally:
            await self._end()
        return True

    def _passes_answer(self, headers: HeaderMap) -> bool:
        headers.changed = False
        length = headers.get(b"content-length")
        return self.passage.response(headers, False) and not (headers.changed and self._is_framed_anew(headers, length))

    async def _call_app(self, headers: HeaderMap) -> None:
        scope = guarded_scope(self.scope, self.lane.filters, self.passage.properties)
        if headers.changed:
            if not translate.is_target_sendable(headers):
                self._hand_over().refuse_request()
                assert self.exchange is not None
                await self.exchange.conclude()
                return
            self._tell_dropped(translate.apply_request_headers(scope, headers))
        try:
            await self.environment.app(scope, self.receive, self.send)
        except Exception as error:
            if self.exchange is None or not self.exchange.excuses(error):
                if self.exchange is not None:
                    await self.exchange.conclude_raised()
                raise
        finally:
            share_scope(scope, self.scope)
        if self.exchange is not None:
            await self.exchange.conclude()

    async def _end(self) -> None:
        if self.exchange is not None:
            await self.exchange.end()
            return
        self.attributes.finished = True
        passage = self.passage
        passage.finish(self.environment.log)
        by = "nobody" if passage.response_headers is None else "app" if passage.reply is None else "plugin"
        self.environment.host_metrics.request_ended(by)

    # --- the app

    async def receive(self) -> Message:
        """The app's `receive`."""
        if self.exchange is not None:
            return await self.exchange.receive()
        progress = self.progress
        progress.app_is_reading = True
        try:
            message = await self.server_receive()
        finally:
            progress.app_is_reading = False
        if self.exchange is None and self._is_unannounced(message):
            self._hand_over()
        if self.exchange is not None:
            self.exchange.hear(message)
            return await self.exchange.receive()
        if message["type"] == "http.disconnect":
            progress.client_gone = True
        elif not progress.client_ended:
            progress.client_ended = not message.get("more_body", False)
            self.attributes.request_size += len(message.get("body", b""))
        return message

    def _is_unannounced(self, message: Message) -> bool:
        """Whether this is a body that plugins were told would not come (HTTP/2), and that one of them should see."""
        return (
            self.lane.plan.sees_body[REQUEST]
            and message["type"] == "http.request"
            and bool(message.get("body") or message.get("more_body", False))
        )

    def send(self, message: Message) -> Awaitable[None]:
        """The app's `send`. What no plugin sees goes on by the server's own awaitable."""
        if self.exchange is not None:
            return self.exchange.send(message)
        progress, kind = self.progress, message["type"]
        if kind == "http.response.body" and progress.response is not None:
            if progress.complete:
                return self.server_send(message)
            progress.bytes_out += len(message.get("body", b""))
            progress.complete = not message.get("more_body", False)
            return self.server_send(message)
        if kind == "http.response.start":
            return self._send_start(message)
        return self._hand_over_and_send(message)

    def _send_start(self, message: Message) -> Awaitable[None]:
        progress = self.progress
        if progress.response is not None:
            raise RuntimeError(SECOND_START)
        if message.get("trailers"):
            return self._hand_over_and_send(message)
        headers = translate.response_headers(message)
        if translate.response_ends_with_headers(self.scope["method"], headers):
            return self._hand_over_and_send(message)
        length = headers.get(b"content-length")
        if not self.passage.response(headers, False) or (headers.changed and self._is_framed_anew(headers, length)):
            return self._hand_over_and_send(message)
        progress.response = message
        if headers.changed:
            message, dropped = translate.response_start(message, headers)
            self._tell_dropped(dropped)
        return self.server_send(message)

    def _is_framed_anew(self, headers: HeaderMap, length: bytes | None) -> bool:
        """Whether plugins changed what says where the response ends."""
        return headers.get(b":status") != self.passage.status or headers.get(b"content-length") != length

    def _tell_dropped(self, names: list[bytes]) -> None:
        if names:
            headers_dropped(self.environment, self.lane.filters, names)

    def _bytes_sent(self) -> int:
        return self.progress.bytes_out

    # --- out of the lane

    def _exchange_for(self) -> HttpExchange:
        """The exchange that goes on from here."""
        filters, passage = self.lane.filters, self.passage
        return HttpExchange(self.environment, filters, self.scope, self.server_receive, self.server_send, passage)

    def _hand_over(self) -> FilterChain:
        """Let an exchange take over in the middle of the app."""
        self.exchange = self._exchange_for()
        return self.exchange.adopt(self.progress)

    def _hand_over_and_send(self, message: Message) -> Awaitable[None]:
        self._hand_over()
        assert self.exchange is not None
        return self.exchange.send(message)
