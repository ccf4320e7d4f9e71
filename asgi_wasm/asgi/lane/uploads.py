"""Bodies of requests in the lane: each piece is shown to the plugins that look at bodies, by their kernels.

A piece that all of them let pass unchanged goes on as the message that it came in, as those of responses do (`pieces`).
At the first pause, effect or failure, and at a change of a length that the app was told, the request leaves its kernels
(`Lent.leave`), and an exchange goes on from that plugin: `PieceWay`.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING

from asgi_wasm.asgi.exchange.endings import tell_after_end
from asgi_wasm.asgi.lane.lent import Lent
from asgi_wasm.asgi.lane.lent_state import BODY, IDLE
from asgi_wasm.asgi.lane.pieces import CANONICAL
from asgi_wasm.asgi.messages import translate
from asgi_wasm.asgi.messages.first import begin_reading
from asgi_wasm.errors import EngineError
from asgi_wasm.host import directions
from asgi_wasm.host.streams.direction import PieceWay
from asgi_wasm.waits import wait

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Message, Scope


def size_told(scope: Scope) -> int | None:
    """How long a request's head says that its body is; less than 0 where that is not for the lane to judge."""
    size: int | None = None
    is_coded = False
    for name, value in scope["headers"]:
        if name == b"content-length":
            if size is not None or CANONICAL.fullmatch(value) is None:
                return -1
            size = int(value)
        elif name == b"transfer-encoding":
            is_coded = True
        elif name != name.lower():
            return -1
    return -1 if is_coded and size is not None else size


class Upload(Lent):
    """A request with a body that some plugin looks at."""

    if not TYPE_CHECKING:  # mypy takes what is declared for what must be in it
        __slots__ = ()

    shows_body = True
    # What its head says; None where that is nothing.
    size: int | None
    # The piece with which the request has left, and how far it came; None where no plugin has seen it.
    odd: Message
    way: PieceWay | None = None

    async def stop_reading(self, _: None = None, error: BaseException | None = None) -> None:
        """Let go of the server's `receive`, if nobody has waited for it. Raises the error that ended the request."""
        reading, self.reading = self.reading, None
        try:
            if reading is not None and not reading.done():
                reading.cancel()
                await wait([reading])
            if error is not None:
                raise error
        finally:
            del error

    # --- before the app is called

    async def read_ahead(self, has_left: bool = False) -> bool:
        """Show plugins what is there of a body whose length they may change (`AppRequest.size_ahead`).

        True when the app is to be called, else the request has been served. ``has_left``: it has with the last piece.
        """
        if has_left:
            await self.go_on_reading(self.odd)
            return False
        if not self.size or not self.lane.plan.changes_body.request or translate.expects_continue(self.scope):
            return True
        try:
            odd = await self._take_ahead(self.size)
        except BaseException as error:
            await self.conclude(error)
            raise
        if self.client_ended and self.bytes_in != self.size:
            # The app is told the length that it has.
            self.leave()
        if self.request is None:
            return True
        await self.go_on_reading(odd)
        return False

    async def go_on_reading(self, odd: Message | None) -> None:
        """What follows on a body of which plugins have seen something before the app, and with which it has left."""
        assert self.request is not None
        if odd is None:
            # Its VM may have failed meanwhile.
            self.request.progress.reading = self.reading
        await self.request.go_on_reading(odd, self.way)

    async def _take_ahead(self, size: int) -> Message | None:
        """`Client.read_ahead`: the message with which the request has left, if it has."""
        while self.request is None and not (self.client_ended or self.client_gone):
            if self.reading is None:
                self.reading = await begin_reading(self.server_receive)
            reading = self.reading
            if self.request is not None or not reading.done():
                break
            self.reading = None
            shown = self.hear(reading.result())
            if shown is not None:
                self.unread.append(shown)
            elif self.request is not None:
                return self.odd
            # No further than one piece, and the end where it is an empty one.
            if self.request_size < size:
                break
        return None

    # --- the app

    async def app_receive(self) -> Message:
        """The app's `receive`."""
        while self.request is None:
            if self.unread or self.client_ended or self.over or self.app_is_reading or self.reading or self.client_gone:
                return await self._receive_otherwise()
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
            shown = self.hear(message)
            if shown is not None:
                return shown
            if self.request is not None:
                return await self.request.heard(self.odd, self.way)
        return await self.request.receive()

    async def _receive_otherwise(self) -> Message:
        """The same, where there is more to it than to ask the server."""
        if self.unread:
            return self.unread.pop(0)
        if self.client_gone or (self.over and not self.client_ended):
            # Of a body that plugins were to see, no more reaches the app.
            return {"type": "http.disconnect"}
        if self.app_is_reading:
            # Two at once.
            return await self.leave().receive()
        if self.reading is None:
            return await self._receive_after_end()
        reading = self.reading
        await wait([reading])
        if self.request is None and self.reading is reading:
            self.reading = None
            shown = self.hear(reading.result())
            if shown is not None:
                return shown
            if self.request is not None:
                return await self.request.heard(self.odd, self.way)
        # It was another's, or nothing.
        return await self.app_receive()

    async def _receive_after_end(self) -> Message:
        """After the last of the body, all that can come is that the client goes."""
        self.app_is_reading = True
        try:
            message = await self.server_receive()
        except BaseException:
            if self.request is not None:
                self.request.heard_nothing()
            raise
        finally:
            self.app_is_reading = False
        if self.request is not None:
            return await self.request.heard(message)
        return self.hear(message) or await self.app_receive()

    # --- what the client says

    def hear(self, message: Message) -> Message | None:
        """Show what it says to each plugin that looks at bodies: what the app is to have, if anything.

        When the request has left with it, `Request.heard` is to go on: ``odd`` and ``way``.
        """
        if message["type"] != "http.request" or self.client_ended or self.over:
            return self._hear_odd(message)
        data, end = message.get("body", b""), not message.get("more_body", False)
        self.odd, self.way = message, None
        if type(data) is not bytes:
            self.leave()
            return None
        if not (data or end):
            return None
        self.request_size += len(data)
        if self.posts[0].vm.thread != get_ident():
            self.posts[0].vm.check_thread()
        return self._passed(message, end, self._show(data, end))

    def _passed(self, message: Message, end: bool, shown: bytes | None) -> Message | None:
        if shown is None:
            return None
        self.bytes_in += len(shown)
        self.client_ended = end
        if shown is not message.get("body", b""):
            return _with(message, shown) if shown or end else None
        return message

    def _show(self, data: bytes, end: bool, after: int = -1) -> bytes | None:
        """What all of them let pass that come after the one with this index."""
        self.phase, self.body_of = BODY, directions.REQUEST
        for index, post in enumerate(self.posts):
            if index <= after or post.show_request is None:
                continue
            self.index = index
            try:
                news = post.show_request(self.ids[index], post.root_id, data, end)
            except EngineError as error:
                self.fail(post, error)
                self._stop(data)
                return None
            if news or post.effects:
                if not news:
                    # The kernel does not know of effects, and has let go of it.
                    post.pieces.piece = data
                changed = self._changed(data)
                if changed is None:
                    return None
                data = changed
        self.phase, self.body_of = IDLE, directions.RESPONSE
        return data

    def _changed(self, data: bytes) -> bytes | None:
        """What the last callback made of it, where that is all that it did; else the request has left."""
        post = self.posts[self.index]
        changed = None if post.effects else post.changed_piece()
        if changed is None or (len(changed) != len(data) and self.size is not None):
            self.leave_after_callback(post)
            self._stop(data)
            return None
        post.pieces.piece = b""
        return changed

    def _hear_odd(self, message: Message) -> Message | None:
        if message["type"] != "http.request":
            self.client_gone = message["type"] == "http.disconnect"
            return None if self.client_gone else message
        if self.client_ended and not tell_after_end(self.lane.environment, message.get("body")):
            return message
        return None

    def _stop(self, data: bytes) -> None:
        """At the filter whose callback was the last, which was shown this."""
        assert self.request is not None
        index = self.index
        self.posts[index].pieces.piece = b""
        buffer = self.request.passage.contexts[index].bodies[directions.REQUEST]
        self.odd, self.way = _with(self.odd, data), PieceWay(index, self.verdict, buffer)


def _with(message: Message, data: bytes) -> Message:
    return {**message, "body": data}
