"""The lane: the short way through server, plugins and app for requests on which nothing unusual happens.

It knows no rule. A request is ordinary while every plugin lets headers, and what it is shown of bodies, pass at once;
whatever else happens, what has been done so far is taken over:

    LentRequest   kernels answer the plugins' hostcalls; there is no context and no header map
    LentUpload    the same, with a body that plugins look at
    Request       the same way in Python, with contexts and header maps (`Lent.leave`)
    HttpExchange  everything (`Request.hand_over`)
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from asgi_wasm.asgi.exchange.environment import Environment
from asgi_wasm.asgi.exchange.exchange import HttpExchange
from asgi_wasm.asgi.lane.heads import read_head
from asgi_wasm.asgi.lane.native import Course, Serve, course_of
from asgi_wasm.asgi.lane.portable import LentRequest, LentUpload
from asgi_wasm.asgi.lane.request import Request
from asgi_wasm.asgi.lane.service import Service
from asgi_wasm.asgi.lane.uploads import size_told
from asgi_wasm.asgi.messages import translate
from asgi_wasm.asgi.messages.first import ENDS, GOES_ON, look_ahead
from asgi_wasm.host.resident.post import Post, posts_of

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Message, Receive, Scope, Send
    from asgi_wasm.host.plugin import Filter


class Lane(Service):
    """The way of the requests of one app and one chain of filters."""

    def __init__(self, environment: Environment, filters: Sequence[Filter]) -> None:
        super().__init__(environment, filters)
        # Where nobody looks at bodies, one that no header announces passes by.
        self._guesses = not self.plan.sees_body.request
        self._posts: list[Post] = []
        # The accelerator's requests, while these posts stand.
        self.course: Course | None = None
        # How often they were made.
        self._made = 0
        # Serve one HTTP request. Raises what the app raises, unless a plugin has answered already.
        self.run: Serve = self.run_lent if self.plan.accelerator is None else self.run_otherwise

    def run_otherwise(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """`run`, where the accelerator does not, or not yet."""
        if self._renews() and self.course is not None:
            # The one before was for posts that are dead.
            request = self.course.open(scope, receive, send)
            if request is not None:
                return request
        return self.run_lent(scope, receive, send)

    def run_lent(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """`run`, without the accelerator."""
        posts = self._posts or self._living_posts()
        for post in posts:
            if post.resident.stale or len(post.lent) + len(post.contexts) >= post.most:
                del post
                posts = self._living_posts()
                break
        if not posts or type(scope.get("headers")) is not list:
            return self._run_portably(scope, receive, send)
        try:
            head = read_head(scope, guesses=self._guesses)
        except (TypeError, ValueError):
            # Other types than bytes.
            translate.settle_headers(scope)
            return self._run_portably(scope, receive, send)
        ends = head[3]
        if ends or (self._guesses and ends is not None):
            return LentRequest(self, posts, scope, receive, send, head, ends).run()
        size = -1 if ends is None else size_told(scope)
        if size is None or size >= 0:
            return LentUpload(self, posts, scope, receive, send, head, size).run()
        return self._run_portably(scope, receive, send)

    async def _run_portably(self, scope: Scope, receive: Receive, send: Send, message: Message | None = None) -> None:
        """``message`` is what the client has said already."""
        plan = self.plan
        # Whatever becomes of the request: a dead VM is let go of, with all its memory.
        posts = self._living_posts()
        if type(scope.get("headers")) is not list:
            translate.settle_headers(scope)
        ends = translate.request_ends_with_headers(scope, guesses=self._guesses)
        told = await look_ahead(scope, receive, message) if ends is None else ENDS if ends else GOES_ON
        if plan.is_straight and (told.ends or self._guesses):
            if posts:
                head = read_head(scope, guesses=self._guesses)
                await LentRequest(self, posts, scope, receive, send, head, told.ends, told.first).run()
                return
            if not plan.sees_body.response:
                await Request(self, scope, receive, send, told).run()
                return
        if posts and ends is None and told.first is None:
            # Nothing but the client's first word says that there is a body.
            await LentUpload(
                self, posts, scope, receive, send, read_head(scope, guesses=False), None, told.reading
            ).run()
            return
        await HttpExchange(self.environment, self.plan, scope, receive, send, told).run()

    def _renews(self) -> bool:
        """Whether there are other posts than there were."""
        made = self._made
        self._living_posts()
        return made != self._made

    def _living_posts(self) -> list[Post]:
        """The filters as kernels serve them; none where they do not."""
        # No variable holds one that is dead: the time limit may keep the frames around a start for a while.
        posts = self._posts
        for index in range(len(posts)):
            if len(posts[index].vm.lent) + len(posts[index].vm.contexts) >= posts[index].most:
                # As full as its limits allow: who refuses is not the lane.
                return []
            if posts[index].vm.failure is not None or posts[index].root.deleted:
                posts = self._posts = []
                if self.course is not None:
                    self.course, self.run = None, self.run_otherwise
                break
        if not posts and self.plan.may_lend:
            self._posts = posts_of(self.filters, translate.FRAMING)
            self.course = course_of(self, self._posts, self.run_otherwise, self._run_portably)
            self._made += 1
            if self.course is not None:
                self.run = self.course.run
        return self._posts
