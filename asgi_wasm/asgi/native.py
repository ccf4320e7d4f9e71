"""Requests in the lane whose Python is the accelerator's (`asgi_wasm/accelerator`).

The C code goes the straight way of `Lent` and keeps its fields. What it knows of names, methods and plans it is told
here; whatever is not straight it leaves to `Lent`'s own methods, at the point where it stopped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Protocol, cast

from asgi_wasm.asgi import translate
from asgi_wasm.asgi.environment import guarded_scope
from asgi_wasm.asgi.lent import Lent
from asgi_wasm.asgi.properties import PluginProperties, properties_of
from asgi_wasm.errors import EngineError

if TYPE_CHECKING:
    from asgi_wasm.asgi.lane import Lane
    from asgi_wasm.asgi.types import Message, Receive, Scope, Send
    from asgi_wasm.host.resident.native import Accelerator
    from asgi_wasm.host.resident.post import Post

# What `accelerator.h` calls so.
HIDDEN, HOST, LENGTH, CODING, TYPE, DELICATE, DELICATE_IN_ANSWER = (1 << bit for bit in range(7))
_TAKES_REQUEST, _TAKES_RESPONSE, _TAKES_LOG, _TAKES_END = (1 << bit for bit in range(4))
_SEES_RESPONSE, _SEES_REQUEST_BODY, _SEES_RESPONSE_BODY = (1 << bit for bit in range(3))
# What the C code answers: all is done; an answer is to be sent; a callback did what is not straight; so it did before.
_CALL_APP, _SEND_ANSWER, _HAND_BACK, _GONE = range(4)
# The VM failed, and the request has left.
_LEFT = -1

_TEXTS = {
    text: text.encode()
    for text in (*("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"), "http", "https")
}


class Course(Protocol):
    """What is known of all requests of one chain of filters."""

    def open(self, scope: Scope, receive: Receive, send: Send, /) -> NativeRequest | None:
        """A request; None for one that is to go another way."""
        ...


class NativeRequest(Lent):
    """`Lent`, where the accelerator does not go on. Its methods of the straight way come from the class beside it."""

    __slots__ = ()

    if TYPE_CHECKING:

        def begin(self) -> int:
            """Show the headers to each plugin; what is to be done then."""

        def call_app(self) -> Awaitable[None]:
            """The app, called with what `begin` made for it."""

        def make_answer(self) -> tuple[Message, Message] | None:
            """The messages of `answer` as plugins left them; None where that is not straight."""

        def close(self) -> int:
            """`share` and `end`; `_GONE` when the request has left before."""

        def show_start(self, message: Message) -> Message | None:
            """The start message as plugins left it. None: not ordinary, where ``message`` is unset, or left."""

        def end(self) -> int:
            """End the streams, once; `_HAND_BACK` after a callback that did what is not straight, `_GONE` as below."""

    async def run(self) -> None:
        """See `Lent.run`, which goes on with whatever is not straight."""
        try:
            then = self.begin()
        except EngineError as error:
            then = self._failed(error)
        if then == _CALL_APP:
            try:
                await self.call_app()
            except BaseException as error:
                if not await self.conclude(error):
                    raise
                return
        else:
            messages = self.make_answer() if then == _SEND_ANSWER else None
            if messages is None:
                await self._go_otherwise(then)
                return
            try:
                for message in messages:
                    await self.server_send(message)
            except BaseException as error:
                await self.conclude(error)
                raise
        try:
            then = self.close()
        except EngineError as error:
            then = self._failed(error)
        if then != _CALL_APP:
            await self._close_otherwise(then)

    async def send_last(self, message: Message) -> None:
        """`Lent._send_last`, entered by the accelerator."""
        await self.server_send(message)
        try:
            then = self.end()
        except EngineError as error:
            then = self._failed(error)
        if then == _HAND_BACK:
            self._leave_end()
        if then != _CALL_APP and self.request is not None:
            self.request.finish()

    async def _go_otherwise(self, then: int) -> None:
        if then == _HAND_BACK:
            post = self.posts[self.index]
            if self._request_changes(post) is not None:
                self.leave_after_callback(post)
        await self.go_on()

    async def _close_otherwise(self, then: int) -> None:
        if then == _HAND_BACK:
            self._leave_end()
        if then == _GONE:
            await self.conclude(None)
        elif self.request is not None:
            await self.request.end()

    def send_portably(self, message: Message) -> Awaitable[None]:
        """The app's `send`, for a message that no plugin has seen."""
        return Lent.send(self, message)

    def answer_without_kernel(self, message: Message, error: BaseException | None) -> Awaitable[None]:
        """The app's `send`, after a callback that failed or did what is not straight."""
        self._leave_response(error)
        assert self.request is not None
        return self.request.go_on_responding(message, self.verdict)

    def _show_response(self, message: Message) -> Message | None:
        try:
            shown = self.show_start(message)
        except EngineError as error:
            self._leave_response(error)
            return None
        if shown is None and self.message is None:
            return Lent._show_response(self, message)
        if shown is None:
            self._leave_response(None)
        return shown

    def _leave_response(self, error: BaseException | None) -> None:
        """Raises an error that is not the guest's."""
        if error is None:
            self.leave_after_callback(self.posts[self.index])
        elif isinstance(error, EngineError):
            self._failed(error)
        else:
            raise error

    def finish(self) -> None:
        """`Lent.finish`, entered by the accelerator."""
        try:
            then = self.end()
        except EngineError as error:
            then = self._failed(error)
        if then == _HAND_BACK:
            self._leave_end()

    def _failed(self, error: EngineError) -> int:
        self.fail(self.posts[self.index], error)
        return _LEFT

    def _leave_end(self) -> None:
        post = self.posts[self.index]
        self.leave_after_callback(post)
        if post.effects:
            post.vm.perform()


def request_type(accelerator: Accelerator) -> type[NativeRequest]:
    """The class of this accelerator's requests."""
    return cast("type[NativeRequest]", type("NativeRequest", (accelerator.Stream, NativeRequest), {"__slots__": ()}))


def course_of(lane: Lane, posts: Sequence[Post]) -> Course | None:
    """What makes requests for these filters; None where there is no accelerator."""
    kernels = [post.resident.native for post in posts]
    accelerator = lane.accelerator
    if accelerator is None or not posts or None in kernels:
        return None
    plan = lane.plan
    sees = (
        _SEES_RESPONSE * plan.sees_response
        | _SEES_REQUEST_BODY * plan.sees_body.request
        | _SEES_RESPONSE_BODY * plan.sees_body.response
    )

    def guard(scope: Scope, properties: dict[bytes, bytes]) -> dict[str, Any]:
        return guarded_scope(scope, lane.plan, properties)

    return cast(
        "Course",
        accelerator.Course(
            *(request_type(accelerator), lane.environment.app, lane, list(posts)),
            tuple(_told(post, kernel) for post, kernel in zip(posts, kernels, strict=True)),
            *(sees, _meanings(), _TEXTS, lane.answers.known, PluginProperties, properties_of, guard),
            *(translate.header_pairs, monotonic_ns),
        ),
    )


def _told(post: Post, kernel: object) -> tuple[object, ...]:
    takes = (
        _TAKES_REQUEST * post.takes_request
        | _TAKES_RESPONSE * post.takes_response
        | _TAKES_LOG * post.takes_log
        | _TAKES_END * post.takes_end
    )
    return (
        kernel,
        post,
        post.vm,
        post.root,
        post.vm.lent,
        post.vm.contexts,
        post.effects,
        post.root_id,
        post.most,
        takes,
    )


def _meanings() -> dict[bytes, int]:
    """What each name that is not like all others means."""
    found = dict.fromkeys(translate.HIDDEN, HIDDEN)
    for names, meaning in (
        ((b"host",), HOST),
        ((b"content-length",), LENGTH),
        ((b"transfer-encoding",), CODING),
        ((b"content-type",), TYPE),
        (translate.FRAMING, DELICATE | DELICATE_IN_ANSWER),
    ):
        for name in names:
            found[name] = found.get(name, 0) | meaning
    return found
