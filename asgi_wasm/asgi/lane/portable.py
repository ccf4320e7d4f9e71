"""The way of a `Lent` request in Python: the reference, and what runs where there is no accelerator."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi.lane.heads import trimmed
from asgi_wasm.asgi.lane.lent import Lent
from asgi_wasm.asgi.lane.lent_state import IDLE, REQUEST
from asgi_wasm.asgi.lane.uploads import Upload
from asgi_wasm.asgi.messages import translate
from asgi_wasm.asgi.own_scope import guarded_scope
from asgi_wasm.asgi.properties import NO_PROPERTIES, PluginProperties, properties_of
from asgi_wasm.errors import EngineError
from asgi_wasm.host.resident.layout import HAS_ANSWERED, LAST_ID, ODD, REQUEST_SLOT, UNTRIMMED, WANTS_TIME

if TYPE_CHECKING:
    import asyncio

    from asgi_wasm.asgi.lane.answers import Answer
    from asgi_wasm.asgi.lane.heads import Fields, Head
    from asgi_wasm.asgi.lane.request import Request
    from asgi_wasm.asgi.lane.service import Service
    from asgi_wasm.asgi.types import Message, Receive, Scope, Send
    from asgi_wasm.host.resident.post import Post


class LentRequest(Lent):
    """One request. What it is at first, and most remain to the end, is the class's."""

    own: Scope | None = None
    first: Message | None = None
    client_gone = app_is_reading = complete = drops_body = over = changed = response_changed = False
    phase = index = bytes_out = request_size = 0
    message: Message | None = None
    response_fields: Fields | None = None
    status: bytes | None = None
    answer: Answer | None = None
    request: Request | None = None
    properties: dict[bytes, bytes] | None = None
    verdict: int | None = None
    held: Message | None = None

    def __init__(
        self,
        lane: Service,
        posts: Sequence[Post],
        scope: Scope,
        receive: Receive,
        send: Send,
        head: Head,
        ends: bool,
        first: Message | None = None,
    ) -> None:
        self.lane = lane
        self.posts = posts
        self.scope = scope
        self.server_receive = receive
        self.server_send = send
        self.pseudo, self.fields, self._kept, _, self._is_typed = head
        self.ends = self.client_ended = ends
        if first is not None:
            self.first = first
        self.began = monotonic_ns()
        self.ids = []
        # What is often looked at is found sooner here than in the class.
        self.request = self.message = None
        self.over = self.complete = self.drops_body = False
        if "asgi_wasm" in scope:
            self.properties = properties_of(scope)
        elif lane.plan.may_set_properties:
            self.properties = {}

    def run(self) -> Awaitable[None]:
        """Show the headers to each plugin; what is to be awaited then serves the request.

        That raises what the app raises, unless a plugin has answered already.
        """
        pseudo, fields, ids = self.pseudo, self.fields, self.ids
        untrimmed = 0
        for index, post in enumerate(self.posts):
            words = post.words
            words[LAST_ID] = context_id = words[LAST_ID] + 1
            ids.append(context_id)
            post.lent[context_id] = self
            if post.takes_request:
                if post.gives[REQUEST_SLOT]:
                    flat = [*pseudo]
                    for field in fields:
                        flat += field
                    post.give(flat)
                if post.may_want_time and words[WANTS_TIME]:
                    post.give_time()
                self.index, self.phase = index, REQUEST
                try:
                    news = post.request(context_id, post.root_id, len(pseudo) // 2 + len(fields), self.ends)
                except EngineError as error:
                    self.fail(post, error)
                    return self.go_on()
                if news or post.effects:
                    if news & (ODD | HAS_ANSWERED) or post.effects:
                        return self._go_on_after(post, news)
                    self.fields = fields = post.changed(fields, news)
                    self.changed = True
                    untrimmed |= news & UNTRIMMED
        self.phase = IDLE
        self._make_own(untrimmed)
        return self._call_app()

    async def _call_app(self) -> None:
        own: Any = self.own
        try:
            await self.lane.app(own, self.app_receive, self.app_send)
        except BaseException as error:
            if not await self.conclude(error):
                raise
            return
        # What is added to a dictionary comes at its end.
        has_added = next(reversed(own), None) != "asgi_wasm"
        if has_added or not self.over or self.request is not None:
            await self.conclude(None)

    def _make_own(self, untrimmed: int) -> None:
        scope, properties = self.scope, self.properties
        if self.lane.plan.sees_body.response and scope.get("extensions"):
            own = guarded_scope(scope, self.lane.plan, {} if properties is None else properties)
        else:
            own = dict(scope)
            own["asgi_wasm"] = NO_PROPERTIES if properties is None else PluginProperties(properties)
        if self.changed:
            own["headers"] = self._kept + (trimmed(self.fields) if untrimmed else self.fields)
        self.own = own

    def _go_on_after(self, post: Post, news: int) -> Awaitable[None]:
        """What follows on a callback that did more than to change headers, which may be just to answer."""
        resident, answers = post.resident, self.lane.answers
        if news & ~UNTRIMMED != HAS_ANSWERED or post.effects or self.index != len(self.posts) - 1:
            found = False
        elif self._is_typed or self.scope["method"] in translate.BODILESS_METHODS:
            found = self._finds_answer()
        else:
            image, answer = answers.last
            found = image is not None and resident.is_local(image)
            if found:
                self.answer = answer
            elif self._finds_answer():
                answers.last, found = (resident.local_image(), self.answer), True
        if found:
            return self._send_answer()
        self.leave_after_callback(post)
        return self.go_on()


class LentUpload(Upload, LentRequest):
    """A request with a body that some plugin looks at."""

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
            await LentRequest.run(self)
        finally:
            if self.reading is not None:
                await self.stop_reading()

    async def _call_app(self) -> None:
        if not await self.read_ahead():
            return
        own = self.own
        assert own is not None
        try:
            await self.lane.app(own, self.app_receive, self.app_send)
        except BaseException as error:
            if not await self.conclude(error):
                raise
        else:
            await self.conclude(None)
