"""A request in the lane with contexts and header maps: the short way of `host.streams.passage`.

Whatever is not ordinary is the `HttpExchange`'s, which takes over what has been done so far: `Request.hand_over`.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING

from asgi_wasm.asgi.exchange.exchange import HttpExchange
from asgi_wasm.asgi.exchange.progress import Progress
from asgi_wasm.asgi.lane.responding import Responding
from asgi_wasm.asgi.messages import rewriting, translate
from asgi_wasm.asgi.messages.first import Told
from asgi_wasm.asgi.messages.lengths import Length, said_by
from asgi_wasm.asgi.own_scope import guarded_scope, share_scope
from asgi_wasm.asgi.properties import ScopeAttributes, properties_of
from asgi_wasm.host.streams.local_reply import UNSENDABLE_TARGET
from asgi_wasm.host.streams.passage import Passage

if TYPE_CHECKING:
    from asgi_wasm.asgi.lane.service import Service
    from asgi_wasm.asgi.types import Message, Receive, Scope, Send
    from asgi_wasm.host.streams.direction import PieceWay
    from asgi_wasm.host.streams.header_map import HeaderMap


class Request(Responding):
    """One request, until it ends or ``exchange`` is there."""

    __slots__ = ()

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

    def _bytes_sent(self) -> int:
        return self.progress.bytes_out
