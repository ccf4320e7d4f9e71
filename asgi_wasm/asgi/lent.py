"""A request in the lane whose headers are lent to the kernels beside its plugins: no context, no map is made for it.

As soon as a plugin, or the app, does anything that is not answered here, `LentRequest.leave` makes the `Request` that
goes on in its place: one function, whatever the point.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi import leaving, pieces, translate
from asgi_wasm.asgi.environment import guarded_scope, share_scope
from asgi_wasm.asgi.leaving import FINISH, IDLE, LOG, REQUEST, RESPONSE
from asgi_wasm.asgi.properties import PluginProperties, properties_of
from asgi_wasm.errors import EngineError
from asgi_wasm.host.resident.layout import (
    ANSWERED,
    CALLED,
    CHANGES,
    COMPLEX,
    CREATING,
    LAST_ID,
    RECALLED,
    STEP,
    VERDICT,
)
from asgi_wasm.host.resident.resident import Change, changed_pairs

if TYPE_CHECKING:
    from asgi_wasm.asgi.answers import Answer
    from asgi_wasm.asgi.first import Told
    from asgi_wasm.asgi.lane import Lane
    from asgi_wasm.asgi.request import Request
    from asgi_wasm.asgi.types import Message, Receive, Scope, Send
    from asgi_wasm.host.resident.post import Post
    from asgi_wasm.host.resident.resident import Lendable


class Lent:
    """One request (`host.vm.vm.Lent`). ``phase`` says which crossing runs, or has just run, for the filter ``index``.

    ``log`` and ``response_log`` are what plugins changed so far, ``shown`` and ``shown_response`` the headers as they
    left them: a kernel is lent these anew for its log, since other requests were shown theirs meanwhile. ``request`` is
    what goes on instead, once this has left: from the filter ``index``, whose callback answered ``verdict`` (None: it
    is yet to run, or it failed).
    """

    if not TYPE_CHECKING:  # mypy takes what is declared below for what must be in it
        __slots__ = ()

    lane: Lane
    posts: Sequence[Post]
    scope: Scope
    # The app's; None without a call of the app.
    own: Scope | None
    server_receive: Receive
    server_send: Send
    # Whether the headers are the whole request; whether all of it has been read.
    ends: bool
    client_ended: bool
    client_gone: bool
    app_is_reading: bool
    complete: bool
    # What the client said first, if it was asked; for the app.
    first: Message | None
    # The streams have ended, or are just ending.
    over: bool
    # By the monotonic clock.
    began: int
    ids: list[int]
    phase: int
    index: int
    bytes_out: int
    request_size: int
    log: list[Change] | None
    response_log: list[Change] | None
    shown: Lendable | None
    shown_response: Lendable | None
    message: Message | None
    # The start message as plugins left it, while it waits for the first verdict on a body whose length it says.
    held: Message | None
    answer: Answer | None
    request: Request | None
    properties: dict[bytes, bytes]
    verdict: int | None

    async def run(self) -> None:
        """Serve the request. Raises what the app raises, unless a plugin has answered already."""
        if not self._show_request():
            await self.go_on()
            return
        try:
            assert self.own is not None
            await self.lane.environment.app(self.own, self.receive, self.send)
        except BaseException as error:
            if not await self.conclude(error):
                raise
        else:
            await self.conclude(None)

    async def go_on(self) -> None:
        """What follows on headers that did not all pass."""
        if self.request is not None:
            await self.request.go_on_requesting(self.verdict)
        else:
            await self._send_answer()

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

    # --- the request

    def _show_request(self) -> bool:
        """Show the headers to each plugin. True when the app is to be called, with ``own``."""
        scope, ends = self.scope, int(self.ends)
        pseudo = translate.pseudo_headers(scope)
        fields = shown = translate.shown_fields(scope)
        for index, post in enumerate(self.posts):
            vm = post.vm
            vm.flags[LAST_ID] = context_id = vm.flags[LAST_ID] + 1
            self.ids.append(context_id)
            vm.lent[context_id] = self
            if post.takes_request:
                post.lists[0] = [*pseudo, *fields]
                self.index, self.phase = index, REQUEST
                try:
                    news = post.request(context_id, post.root_id, len(pseudo) + len(fields), ends)
                except EngineError as error:
                    self.fail(post, error)
                    return False
                if news or post.effects:
                    changes = self._request_changes(post)
                    if changes is None:
                        return False
                    fields = changed_pairs(fields, changes)
                    self.log = changes if self.log is None else self.log + changes
        self.phase = IDLE
        self.shown = [*pseudo, *fields]
        self.own = own = {**scope, "asgi_wasm": PluginProperties(self.properties)}
        if self.lane.plan.sees_body.response and scope.get("extensions"):
            self.own = own = guarded_scope(scope, self.lane.plan, self.properties)
        if fields is not shown:
            own["headers"] = translate.kept_fields(scope, pseudo) + translate.trimmed(fields)
        return True

    def _request_changes(self, post: Post) -> list[Change] | None:
        """What the callback changed; None when the request does not go on from here to the next plugin."""
        words = post.words
        if not (words[RECALLED] or words[COMPLEX] or post.effects):
            if words[ANSWERED]:
                if not words[CHANGES] and self.index == len(self.posts) - 1:
                    self.answer = self.lane.answers.find(self.scope, post.resident.local())
                    if self.answer is not None:
                        self.shown = post.lists[0]
                        return None
            elif not words[VERDICT]:
                changes = post.resident.ordinary_changes(translate.FRAMING)
                if changes is not None:
                    return changes
        self.leave_after_callback(post)
        return None

    # --- the app

    async def receive(self) -> Message:
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
        finally:
            self.app_is_reading = False
        if self.request is not None:
            return await self.request.heard(message)
        if message["type"] == "http.disconnect":
            self.client_gone = True
        elif not self.client_ended:
            self.client_ended = not message.get("more_body", False)
            self.request_size += len(message.get("body", b""))
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """The app's `send`. What no plugin sees goes on by the server's own awaitable."""
        if self.request is not None:
            return self.request.send(message)
        kind = message["type"]
        if kind == "http.response.body" and self.message is not None:
            if not self.complete:
                if self.lane.plan.sees_body.response:
                    return pieces.send(self, message)
                self.bytes_out += len(message.get("body", b""))
                if not message.get("more_body", False):
                    # The app may call `send` from anywhere.
                    self.posts[0].vm.check_thread()
                    self.complete = True
                    return self.send_last(message)
            return self.server_send(message)
        if kind != "http.response.start" or self.message is not None:
            return self.leave().send(message)
        plan = self.lane.plan
        if not (plan.sees_response or plan.sees_body.response or message.get("trailers")):
            self.message = message
            return self.server_send(message)
        if not translate.is_ordinary_start(self.scope["method"], message):
            return self.leave().send(message)
        length = pieces.length_of(message) if plan.sees_body.response else None
        if length is not None and length < 0:
            return self.leave().send(message)
        changed = self._show_response(message)
        if changed is None:
            assert self.request is not None
            return self.request.go_on_responding(message, self.verdict)
        if length is not None:
            self.held = changed
            return pieces.nothing()
        return self.server_send(changed)

    def _show_response(self, message: Message) -> Message | None:
        """The message as plugins left it; None when the request has left."""
        # The app may call `send` from anywhere.
        self.posts[0].vm.check_thread()
        self.message = message
        fields = original = message["headers"]
        status = (b":status", b"%d" % message["status"])
        for index in range(len(self.ids) - 1, -1, -1):
            post = self.posts[index]
            if post.takes_response:
                post.lists[1] = [status, *fields]
                self.index, self.phase = index, RESPONSE
                try:
                    news = post.response(self.ids[index], post.root_id, len(fields) + 1, 0)
                except EngineError as error:
                    self.fail(post, error)
                    return None
                if news or post.effects:
                    changes = self._response_changes(post)
                    if changes is None:
                        return None
                    fields = changed_pairs(fields, changes)
                    self.response_log = changes if self.response_log is None else self.response_log + changes
        self.phase = IDLE
        self.shown_response = [status, *fields]
        return message if fields is original else {**message, "headers": translate.trimmed(fields)}

    def _response_changes(self, post: Post) -> list[Change] | None:
        words = post.words
        if not (words[RECALLED] or words[COMPLEX] or words[VERDICT] or post.effects):
            changes = post.resident.ordinary_changes(translate.FRAMING)
            if changes is not None:
                return changes
        self.leave_after_callback(post)
        return None

    async def _send_answer(self) -> None:
        """Send what the last plugin answered in the app's stead, as all left it."""
        assert self.answer is not None
        self.phase = IDLE
        made: Message = {**self.answer.start, "headers": [*self.answer.start["headers"]]}
        content, plan = self.answer.content, self.lane.plan
        if plan.sees_response:
            start = self._show_response(made)
        else:
            self.message = start = made
        if start is None:
            assert self.request is not None
            await self.request.go_on_answering(self.verdict)
            return
        if plan.sees_body.response:
            self.held = start
            way = pieces.show(self, content, True)
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

    async def send_last(self, message: Message) -> None:
        """The stream is over when its response is: what the app does afterwards is nothing to plugins."""
        await self.server_send(message)
        if self.request is None and not self.over:
            self.finish()
        if self.request is not None:
            self.request.finish()

    def finish(self) -> None:
        """Log for every plugin, then done and delete for each, in the order of the request (`FilterChain.finish`).

        Once. Where the request leaves in the middle of it, the rest is for ``request``.
        """
        self.over = True
        posts, answered = self.posts, int(self.message is not None)
        if len(posts) == 1 and posts[0].takes_log:
            if self._cross(LOG, 0, posts[0].end, answered):
                posts[0].vm.lent.pop(self.ids[0], None)
            return
        for index, post in enumerate(posts):
            if post.takes_log and not self._cross(LOG, index, post.log, answered):
                return
        for index, post in enumerate(posts):
            if post.takes_end and not self._cross(FINISH, index, post.finish):
                return
            post.vm.lent.pop(self.ids[index], None)

    def _unseen_response(self) -> Sequence[tuple[bytes, bytes]]:
        """The headers of a response that no plugin has seen before its log."""
        assert self.message is not None
        return [(b":status", b"%d" % self.message["status"]), *translate.header_pairs(self.message)]

    def _cross(self, phase: int, index: int, crossing: Callable[..., Any], *more: int) -> bool:
        """False when the request has left."""
        post = self.posts[index]
        self.index, self.phase = index, phase
        post.lists[:] = self.shown or (), self.shown_response or self._unseen_response
        try:
            news = crossing(self.ids[index], post.root_id, *more)
        except EngineError as error:
            self.fail(post, error)
            return False
        if not self.shown_response:
            # It would keep this, and the server's connection, until the next request.
            post.lists[1] = ()
        if news:
            self.leave_after_callback(post)
        self.phase = IDLE
        if post.effects:
            post.vm.perform()
        return not news

    # --- out of here

    def recall(self) -> None:
        """Make the contexts and go on without the kernels, in the middle of a callback (`host.vm.vm.Lent`)."""
        self.leave()

    def leave(self) -> Request:
        """What goes on from here; in the middle of a crossing, it takes over from the kernel."""
        if self.request is None:
            self.request = leaving.request_of(self.lane, self)
        return self.request

    def leave_after_callback(self, post: Post) -> None:
        step = post.words[STEP]
        self.verdict = post.words[VERDICT] if step == CALLED else None
        request = self.leave()
        post.vm.leave()
        if self.phase >= LOG:
            leaving.left_at_end(request, self, step)
        self.phase = IDLE

    def fail(self, post: Post, error: EngineError) -> None:
        """The VM trapped in a crossing."""
        step = post.words[STEP]
        self.verdict = None
        request = self.leave()
        post.vm.leave()
        post.vm.fail(error)
        if self.phase >= LOG:
            leaving.left_at_end(request, self, step)
        elif self.phase == REQUEST and step == CREATING:
            leaving.refuse(request, self.index)
        self.phase = IDLE


class LentRequest(Lent):
    """The reference, in Python."""

    __slots__ = (
        "answer",
        "app_is_reading",
        "began",
        "bytes_out",
        "client_ended",
        "client_gone",
        "complete",
        "ends",
        "first",
        "held",
        "ids",
        "index",
        "lane",
        "log",
        "message",
        "over",
        "own",
        "phase",
        "posts",
        "properties",
        "request",
        "request_size",
        "response_log",
        "scope",
        "server_receive",
        "server_send",
        "shown",
        "shown_response",
        "verdict",
    )

    def __init__(
        self, lane: Lane, posts: Sequence[Post], scope: Scope, receive: Receive, send: Send, told: Told
    ) -> None:
        self.lane = lane
        self.posts = posts
        self.scope = scope
        self.server_receive = receive
        self.server_send = send
        self.ends = self.client_ended = told.ends
        self.first = told.first
        self.began = monotonic_ns()
        self.ids = []
        self.phase = self.bytes_out = self.request_size = 0
        self.client_gone = self.app_is_reading = self.complete = self.over = False
        self.log = self.response_log = None
        self.shown = self.shown_response = None
        self.message = self.held = self.answer = self.request = None
        self.properties = properties_of(scope) if "asgi_wasm" in scope else {}
