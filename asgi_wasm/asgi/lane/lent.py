"""A request in the lane whose headers are lent to the kernels beside its plugins: no context, no map is made for it.

As soon as a plugin, or the app, does anything that is not answered here, `Lent.leave` makes the `Request` that goes on
in its place: one function, whatever the point.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from itertools import chain
from threading import get_ident
from typing import TYPE_CHECKING

from asgi_wasm.asgi.exchange.endings import nothing
from asgi_wasm.asgi.lane import pieces
from asgi_wasm.asgi.lane.heads import read_start, trimmed
from asgi_wasm.asgi.lane.lent_end import LentEnd
from asgi_wasm.asgi.lane.lent_state import IDLE, RESPONSE
from asgi_wasm.asgi.messages import translate
from asgi_wasm.asgi.own_scope import share_scope
from asgi_wasm.errors import EngineError
from asgi_wasm.host import directions
from asgi_wasm.host.resident.layout import ODD, REQUEST_SLOT, RESPONSE_SLOT, UNTRIMMED

if TYPE_CHECKING:
    import asyncio

    from asgi_wasm.asgi.types import Message

_flatten = chain.from_iterable


class Lent(LentEnd):
    """One request (`resident.Lent`)."""

    if not TYPE_CHECKING:  # mypy takes what is declared for what must be in it
        __slots__ = ()

    # Without a body that plugins look at.
    shows_body = False
    bytes_in = 0
    reading: asyncio.Future[Message] | None = None
    body_of = directions.RESPONSE

    def go_on(self) -> Awaitable[None]:
        """What follows on headers that did not all pass."""
        return self._send_answer() if self.request is None else self.request.go_on_requesting(self.verdict)

    async def conclude(self, error: BaseException | None) -> bool:
        """What follows on the app's end; whether what it raised is excused, as a plugin has answered already."""
        if self.own is not None:
            share_scope(self.own, self.scope)
        try:
            if self.request is None:
                return False
            if error is None:
                await self.request.conclude()
            elif isinstance(error, Exception):
                if self.request.excuses(error):
                    await self.request.conclude()
                    return True
                await self.request.conclude_raised()
            return False
        finally:
            if self.request is None and not self.over:
                self.finish()
            if self.request is not None:
                await self.request.end()

    # --- for kernels

    def flat(self, slot: int) -> Sequence[bytes]:
        """Go on with contexts and maps of its own, which hostcalls can act for."""
        if slot == REQUEST_SLOT:
            return [*self.pseudo, *_flatten(self.fields)]
        if self.response_fields is not None and self.status is not None:
            return [b":status", self.status, *_flatten(self.response_fields)]
        # Of a response that no plugin has seen before its log.
        assert self.message is not None
        return [b":status", b"%d" % self.message["status"], *_flatten(translate.header_pairs(self.message))]

    # --- the app

    async def app_receive(self) -> Message:
        """The app's `receive`."""
        if self.first is not None and self.request is None:
            first, self.first = self.first, None
            return first
        if self.request is None and self.lane.plan.sees_body.request:
            self.leave()
        if self.request is not None:
            return await self.request.receive()
        self.app_is_reading = True
        try:
            message = await self.server_receive()
        except BaseException:
            self.app_is_reading = False
            if self.request is not None:
                self.request.heard_nothing()
            raise
        self.app_is_reading = False
        if self.request is not None:
            return await self.request.heard(message)
        if message["type"] == "http.disconnect":
            self.client_gone = True
        elif not self.client_ended:
            self.client_ended = not message.get("more_body", False)
            self.request_size += len(message.get("body", b""))
        return message

    def app_send(self, message: Message) -> Awaitable[None]:
        """The app's `send`. What no plugin sees goes on by the server's own awaitable."""
        if self.request is not None:
            return self.request.send(message)
        kind = message["type"]
        if self.message is not None and kind == "http.response.body":
            if self.drops_body:
                return self._drop(message)
            if not self.complete:
                if self.lane.plan.sees_body.response:
                    return pieces.send(self, message)
                self.bytes_out += len(message.get("body", b""))
                if not message.get("more_body", False):
                    if self.posts[0].vm.thread != get_ident():
                        self.posts[0].vm.check_thread()  # the app may call `send` from anywhere
                    self.complete = True
                    return self.send_last(message)
            return self.server_send(message)
        if kind != "http.response.start" or self.message is not None:
            return self.leave().send(message)
        plan = self.lane.plan
        if not (plan.sees_response or plan.sees_body.response or message.get("trailers")):
            own = message.get("headers")  # no call for what is usual
            message, self.message = (message, {**message, "headers": own[:]}) if type(own) is list else _kept(message)
            return self.server_send(message)
        read = read_start(self.scope["method"], message)
        length = pieces.length_of(message) if read is not None and plan.sees_body.response else None
        if read is None or (length is not None and length < 0):
            return self.leave().send(message)
        status, self.drops_body = read
        changed = self._show_response(message, status)
        if changed is None:
            assert self.request is not None
            return self.request.go_on_responding(message, self.verdict)
        if self.drops_body:
            return self._send_head(changed)
        if length is not None:
            self.held = changed
            return nothing()
        return self.server_send(changed)

    def _show_response(self, message: Message, status: bytes) -> Message | None:
        """The message as plugins left it; None when the request has left."""
        posts, ids = self.posts, self.ids
        if posts[0].vm.thread != get_ident():
            posts[0].vm.check_thread()
        self.response_fields = fields = message["headers"]
        # Its length is asked for again when a plugin has changed the body.
        self.message = {**message, "headers": [*fields]} if self.lane.plan.sees_body.response else message
        self.status = status
        untrimmed, index = 0, len(ids)
        while index:
            index -= 1
            post = posts[index]
            if not post.takes_response:
                continue
            if post.gives[RESPONSE_SLOT]:
                flat = [b":status", status]
                for field in fields:
                    flat += field
                post.give(flat)
            self.index, self.phase = index, RESPONSE
            try:
                news = post.response(ids[index], post.root_id, len(fields) + 1, self.drops_body)
            except EngineError as error:
                self.fail(post, error)
                return None
            if news or post.effects:
                if news & ODD or post.effects:
                    self.leave_after_callback(post)
                    return None
                self.response_fields = fields = post.changed(fields, news)
                self.response_changed = True
                untrimmed |= news & UNTRIMMED
        self.phase = IDLE
        # The app, or a middleware outside, may change its message and its list later.
        self.response_fields = [*fields]
        if not self.response_changed:
            return message
        return {**message, "headers": trimmed(fields) if untrimmed else fields}

    # --- an answer in the app's stead

    def _finds_answer(self) -> bool:
        """Whether the last callback's local response is one to be sent as it is: ``answer``."""
        self.answer = self.lane.answers.find(self.scope, self.posts[self.index].resident.local())
        return self.answer is not None

    async def _send_answer(self) -> None:
        """Send what the last plugin answered in the app's stead, as all left it."""
        assert self.answer is not None
        self.phase = IDLE
        made: Message = {**self.answer.start, "headers": [*self.answer.start["headers"]]}
        content, plan = self.answer.content, self.lane.plan
        if plan.sees_response:
            start = self._show_response(made, b"%d" % made["status"])
        else:
            self.message = start = made
        if start is None:
            assert self.request is not None
            await self.request.go_on_answering(self.verdict)
            return
        if plan.sees_body.response:
            self.held = start
            _, way = pieces.show(self, content, True, may_change=False)
            if way is not None:
                assert self.request is not None
                await self.request.answer_piece(way)
                return
            self.held = None
        self.bytes_out = len(content)
        try:
            await self.server_send(start)
            await self.server_send({"type": "http.response.body", "body": content, "more_body": False})
        finally:
            self.finish()
            if self.request is not None:
                await self.request.end()

    # --- the end

    def _drop(self, message: Message) -> Awaitable[None]:
        """What an app sends after a response that ended with its head."""
        self.drops_body = bool(message.get("more_body", False))
        return nothing()

    async def _send_head(self, start: Message) -> None:
        """Send a response that ends with its head."""
        self.complete = True
        await self.server_send(start)
        await self.send_last({"type": "http.response.body", "body": b"", "more_body": False})

    async def send_last(self, message: Message) -> None:
        """The stream is over when its response is: what the app does afterwards is nothing to plugins."""
        await self.server_send(message)
        if self.request is None and not self.over:
            self.finish()
        if self.request is not None:
            self.request.finish()


def _kept(message: Message) -> tuple[Message, Message]:
    """A start message for the server, and as it will be for a log: ASGI allows any iterable as headers, and whoever
    has the message may change it.
    """
    fields = message.get("headers")
    if fields is None:
        return message, {**message, "headers": []}
    own = [*fields]
    return {**message, "headers": own}, {**message, "headers": [*own]}
