"""How a request that is lent to kernels ends, and how it leaves them: see `lent`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi.lane import leaving
from asgi_wasm.asgi.lane.lent_state import FINISH, IDLE, LOG, REQUEST, LentState
from asgi_wasm.errors import EngineError
from asgi_wasm.host.resident.layout import CALLED, CREATING, STEP, VERDICT

if TYPE_CHECKING:
    from asgi_wasm.asgi.lane.request import Request
    from asgi_wasm.host.resident.post import Post


class LentEnd(LentState):
    """What ends or leaves; of `Lent`."""

    if not TYPE_CHECKING:  # mypy takes what is declared for what must be in it
        __slots__ = ()

    def finish(self) -> None:
        """Log for every plugin, then done and delete for each, in the order of the request (`FilterChain.finish`).

        Once. Where the request leaves in the middle of it, the rest is for ``request``.
        """
        self.over = True
        posts = self.posts
        if len(posts) == 1:
            post = posts[0]
            if not (post.takes_log or post.takes_end) or self._cross(LOG, 0, post.end):
                post.lent.pop(self.ids[0], None)
            return
        for index, post in enumerate(posts):
            if post.takes_log and not self._cross(LOG, index, post.log):
                return
        for index, post in enumerate(posts):
            if post.takes_end and not self._cross(FINISH, index, post.finish):
                return
            post.lent.pop(self.ids[index], None)

    def _cross(self, phase: int, index: int, crossing: Callable[..., Any]) -> bool:
        """False when the request has left."""
        post = self.posts[index]
        self.index, self.phase = index, phase
        try:
            if phase == LOG:
                news = crossing(self.ids[index], post.root_id, self.message is not None)
            else:
                news = crossing(self.ids[index], post.root_id)
        except EngineError as error:
            self.fail(post, error)
            return False
        if news:
            self.leave_after_callback(post)
        self.phase = IDLE
        if post.effects:
            post.vm.perform()
        return not news

    # --- out of here

    def recall(self) -> None:
        """Make the contexts and go on without the kernels, in the middle of a callback (`resident.Lent`)."""
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

    def _failed(self, error: BaseException) -> None:
        """`fail`, of the callback that was the last. Raises an error that is not the guest's."""
        try:
            if not isinstance(error, EngineError):
                raise error
            self.fail(self.posts[self.index], error)
        finally:
            del error
