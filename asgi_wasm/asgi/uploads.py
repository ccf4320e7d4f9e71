"""Bodies of requests in the lane: each piece is shown to the plugins that look at bodies, by their kernels.

A piece that all of them let pass unchanged goes on as the message that it came in, as those of responses do (`pieces`).
At the first pause, effect or failure, and at a change of a length that the app was told, the request leaves its kernels
(`Lent.leave`), and an exchange goes on from that plugin: `PieceWay`.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING

from asgi_wasm.asgi import translate
from asgi_wasm.asgi.endings import tell_after_end
from asgi_wasm.asgi.first import begin_reading
from asgi_wasm.asgi.lent_state import BODY, IDLE
from asgi_wasm.asgi.pieces import CANONICAL
from asgi_wasm.asgi.portable import LentRequest
from asgi_wasm.errors import EngineError
from asgi_wasm.host import directions
from asgi_wasm.host.streams.direction import PieceWay
from asgi_wasm.waits import wait

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from asgi_wasm.asgi.heads import Head
    from asgi_wasm.asgi.service import Service
    from asgi_wasm.asgi.types import Message, Receive, Scope, Send
    from asgi_wasm.host.resident.post import Post


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


class LentUpload(LentRequest):
    """A request with a body that some plugin looks at."""

    shows_body = True
    # The piece with which the request has left, and how far it came; None where no plugin has seen it.
    odd: Message
    way: PieceWay | None = None

    def __init__(
        self,
        lane: Service,
        posts: Sequence[Post],
        scope: Scope,
        receive: Receive,
        send: Send,
        head: Head,
        size: int | None,
        reading: asyncio.Future[Message] | None = None,
    ) -> None:
        """``reading`` is a call of ``receive`` that was begun to find out whether there is a body (`first.Told`)."""
        super().__init__(lane, posts, scope, receive, send, head, ends=False)
        self.size = size
        self.reading = reading
        self.unread = []

    async def run(self) -> None:
        """Serve the request. Raises what the app raises, unless a plugin has answered already."""
        try:
            if not self._show_request():
                await (self._send_answer() if self.request is None else self.go_on())
            elif await self._read_ahead():
                await self._call_app()
        finally:
            reading = self.reading
            if reading is not None and not reading.done():
                reading.cancel()
                await wait([reading])

    async def _call_app(self) -> None:
        own = self.own
        assert own is not None
        try:
            await self.lane.app(own, self.app_receive, self.app_send)
        except BaseException as error:
            if not await self.conclude(error):
                raise
        else:
            await self.conclude(None)

    # --- before the app is called

    async def _read_ahead(self) -> bool:
        """Show plugins what is there of a body whose length they may change (`AppRequest.size_ahead`).

        True when the app is to be called, else the request has been served.
        """
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
        if odd is None:
            # Its VM may have failed meanwhile.
            self.request.progress.reading = self.reading
        await self.request.go_on_reading(odd, self.way)
        return False

    async def _take_ahead(self, size: int) -> Message | None:
        """`Client.read_ahead`: the message with which the request has left, if it has."""
        while self.request is None and not (self.client_ended or self.client_gone):
            if self.reading is None:
                self.reading = await begin_reading(self.server_receive)
            reading = self.reading
            if self.request is not None or not reading.done():
                break
            self.reading = None
            shown = self._hear(reading.result())
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
            shown = self._hear(message)
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
            shown = self._hear(reading.result())
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
        return self._hear(message) or await self.app_receive()

    # --- what the client says

    def _hear(self, message: Message) -> Message | None:
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
        shown = self._show(data, end)
        if shown is None:
            return None
        self.bytes_in += len(shown)
        self.client_ended = end
        if shown is not data:
            return _with(message, shown) if shown or end else None
        return message

    def _show(self, data: bytes, end: bool) -> bytes | None:
        """What all of them let pass."""
        self.phase, self.body_of = BODY, directions.REQUEST
        for index, post in enumerate(self.posts):
            if post.show_request is None:
                continue
            self.index = index
            try:
                news = post.show_request(self.ids[index], post.root_id, data, end)
            except EngineError as error:
                self.fail(post, error)
                self._stop(index, data)
                return None
            if news or post.effects:
                changed = None if post.effects else post.changed_piece()
                if changed is None or (len(changed) != len(data) and self.size is not None):
                    if not news:
                        # The kernel does not know of effects, and has let go of it.
                        post.pieces.piece = data
                    self.leave_after_callback(post)
                    self._stop(index, data)
                    return None
                data, post.pieces.piece = changed, b""
        self.phase, self.body_of = IDLE, directions.RESPONSE
        return data

    def _hear_odd(self, message: Message) -> Message | None:
        if message["type"] != "http.request":
            self.client_gone = message["type"] == "http.disconnect"
            return None if self.client_gone else message
        if self.client_ended and not tell_after_end(self.lane.environment, message.get("body")):
            return message
        return None

    def _stop(self, index: int, data: bytes) -> None:
        """At the filter whose callback was the last, which was shown this."""
        assert self.request is not None
        self.posts[index].pieces.piece = b""
        buffer = self.request.passage.contexts[index].bodies[directions.REQUEST]
        self.odd, self.way = _with(self.odd, data), PieceWay(index, self.verdict, buffer)


def _with(message: Message, data: bytes) -> Message:
    return {**message, "body": data}
