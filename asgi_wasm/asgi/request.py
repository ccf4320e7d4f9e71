"""A request in the lane with contexts and header maps: the short way of `host.streams.passage`.

Whatever is not ordinary is the `HttpExchange`'s, which takes over what has been done so far: `Request.hand_over`.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING

from asgi_wasm.asgi import rewriting, translate
from asgi_wasm.asgi.app_response import SECOND_START
from asgi_wasm.asgi.endings import has_left, headers_dropped, nothing
from asgi_wasm.asgi.exchange import HttpExchange
from asgi_wasm.asgi.first import Told
from asgi_wasm.asgi.lengths import Length, said_by
from asgi_wasm.asgi.own_scope import guarded_scope, share_scope
from asgi_wasm.asgi.progress import Progress
from asgi_wasm.asgi.properties import ScopeAttributes, properties_of
from asgi_wasm.host.streams.local_reply import UNSENDABLE_TARGET
from asgi_wasm.host.streams.passage import Passage

if TYPE_CHECKING:
    from asgi_wasm.asgi.service import Service
    from asgi_wasm.asgi.types import Message, Receive, Scope, Send
    from asgi_wasm.host.streams.direction import PieceWay
    from asgi_wasm.host.streams.filter_chain import FilterChain
    from asgi_wasm.host.streams.header_map import HeaderMap


class Request:
    """One request, until it ends or ``exchange`` is there."""

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

    def __init__(
        self,
        lane: Service,
        scope: Scope,
        receive: Receive,
        send: Send,
        told: Told,
        began: int | None = None,
    ) -> None:
        """``began`` is when, by the monotonic clock, if that was not just now."""
        self.lane = lane
        self.environment = lane.environment
        self.scope = scope
        self.server_receive = receive
        self.server_send = send
        self.exchange: HttpExchange | None = None
        # The plugins have been told of the end.
        self.ended = False
        self.progress = Progress(told.ends, scope["method"], told.first)
        self.attributes = ScopeAttributes(scope, began)
        # Weakly: a cycle would keep the server's connection until the garbage collector comes.
        me = weakref.proxy(self)
        self.attributes.bytes_sent = partial(Request._bytes_sent, me)
        self.attributes.chain = self.passage = Passage(lane.filters, self.attributes, partial(Request.hand_over, me))
        if "asgi_wasm" in scope:
            self.passage.properties = properties_of(scope)

    async def run(self) -> None:
        """The whole request (`Lane.run`)."""
        self.passage.request_headers = translate.request_headers(self.scope)
        await self.go_on_requesting(None)

    async def go_on_requesting(self, verdict: int | None) -> None:
        """Show the request to the plugins after ``passage.passed``, the first of which may have answered already."""
        passage = self.passage
        headers = passage.request_headers
        assert headers is not None
        if self.progress.shows_body:
            passage.verdict = verdict
            await self._exchange_for().run()
            return
        if passage.request(headers, self.progress.client_ended, verdict):
            try:
                await self._call_app(headers)
            finally:
                await self.end()
            return
        ordinary = not self.lane.plan.sees_body.response and self.scope["method"] not in translate.BODILESS_METHODS
        reply = passage.answer() if ordinary else None
        if reply is None:
            await self._exchange_for().run()
        else:
            reply.changed = False
            passes = passage.response(reply, False)
            await self._send_answer(passes)

    async def go_on_reading(self, message: Message | None, way: PieceWay | None) -> None:
        """Serve a request of whose body plugins have seen something before the app, this message at last."""
        self.passage.verdict = None
        self.progress.ahead, self.progress.way = message, way
        await self._exchange_for().run(self.progress)

    async def go_on_answering(self, verdict: int | None) -> None:
        """Show a plugin's answer to the plugins after ``passage.passed``."""
        passage = self.passage
        assert passage.response_headers is not None
        if self.lane.plan.sees_body.response:
            passage.verdict = verdict
            await self._send_answer(passes=False)
            return
        await self._send_answer(passage.go_on_responding(passage.response_headers, False, verdict))

    async def answer_piece(self, way: PieceWay) -> None:
        """Send a plugin's answer whose headers have passed all plugins, and whose body goes this way."""
        self.passage.passed, self.passage.verdict, self.passage.way = len(self.passage.contexts), None, way
        await self._send_answer(passes=False)

    async def _send_answer(self, passes: bool) -> None:
        passage = self.passage
        headers, content = passage.response_headers, passage.reply
        assert headers is not None and content is not None
        length = b"%d" % len(content)
        if not passes or (headers.changed and self._is_framed_anew(headers, length)):
            await self._exchange_for().run()
            return
        message, dropped = translate.response_start(None, headers)
        self._tell_dropped(dropped)
        self.progress.bytes_out = len(content)
        try:
            await self.server_send(message)
            await self.server_send({"type": "http.response.body", "body": content, "more_body": False})
        finally:
            await self.end()

    # --- the app

    async def _call_app(self, headers: HeaderMap) -> None:
        scope = guarded_scope(self.scope, self.lane.plan, self.passage.properties)
        if headers.changed:
            if not rewriting.is_target_sendable(headers):
                self.hand_over().refuse(UNSENDABLE_TARGET)
                await self.conclude()
                return
            self._tell_dropped(rewriting.apply_request_headers(scope, headers))
            # There is no body, or nobody who may change it.
            length = Length()
            length.own = said_by(self.scope["headers"])
            scope["headers"] = length.settle(scope["headers"], None, may_change=False)
            self.progress.method = scope["method"]
        try:
            await self.environment.app(scope, self.receive, self.send)
        except Exception as error:
            if not self.excuses(error):
                await self.conclude_raised()
                raise
        finally:
            share_scope(scope, self.scope)
        await self.conclude()

    def excuses(self, error: Exception) -> bool:
        """Whether what the app raised is of no account any more."""
        return self.exchange is not None and self.exchange.excuses(error)

    async def conclude(self) -> None:
        """Wait, once the app has ended, for what a plugin still holds back."""
        if self.exchange is not None:
            await self.exchange.conclude()

    async def conclude_raised(self) -> None:
        """`conclude` for an app that raised: see `HttpExchange.conclude_raised`."""
        if self.exchange is not None:
            await self.exchange.conclude_raised()

    async def end(self) -> None:
        """Finish the contexts, whatever happened."""
        if self.exchange is not None:
            await self.exchange.end()
        else:
            self.finish()

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

    async def receive(self) -> Message:
        """The app's `receive`."""
        if self.progress.shows_body and self.exchange is None:
            if not self.ended:
                self.hand_over()
            elif self.progress.unread:
                return self.progress.unread.pop(0)
            elif not self.progress.client_ended:
                return {"type": "http.disconnect"}
        if self.exchange is not None:
            return await self.exchange.receive()
        if self.progress.first is not None:
            first, self.progress.first = self.progress.first, None
            return first
        self.progress.app_is_reading = True
        try:
            message = await self.server_receive()
        except BaseException:
            self.heard_nothing()
            raise
        return await self.heard(message)

    async def heard(self, message: Message, way: PieceWay | None = None) -> Message:
        """What the app gets where the client said this to its `receive`.

        ``way`` is that of a piece of the body that some plugins have seen already.
        """
        progress = self.progress
        progress.app_is_reading = False
        if self.exchange is None and self._is_for_plugins(message):
            if self.ended:
                return {"type": "http.disconnect"}
            self.hand_over()
        if self.exchange is not None:
            return await self.exchange.receive_heard(message, way)
        if message["type"] == "http.disconnect":
            progress.client_gone = True
        elif not progress.client_ended:
            progress.client_ended = not message.get("more_body", False)
            self.attributes.request_size += len(message.get("body", b""))
        return message

    def heard_nothing(self) -> None:
        """The app's `receive` ended without a message, cancelled above all: an exchange need not wait for it."""
        self.progress.app_is_reading = False
        if self.exchange is not None:
            self.exchange.hear_nothing()

    def _is_for_plugins(self, message: Message) -> bool:
        """Whether it is of a body that one of them should see, be it that they were told none would come (HTTP/2)."""
        if not self.lane.plan.sees_body.request or message["type"] != "http.request":
            return False
        more_to_see = self.progress.shows_body and not self.progress.client_ended
        return more_to_see or bool(message.get("body") or message.get("more_body", False))

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
        if self.ended:
            return self.server_send(message)
        if kind == "http.response.start":
            return self._send_start(message)
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
        if self.exchange is None:
            self.hand_over()
        assert self.exchange is not None
        return self.exchange.send(message, way)

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

    def _bytes_sent(self) -> int:
        return self.progress.bytes_out

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

    def _hand_over_and_send(self, message: Message) -> Awaitable[None]:
        self.hand_over()
        assert self.exchange is not None
        return self.exchange.send(message)
