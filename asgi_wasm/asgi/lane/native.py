"""Requests in the lane whose Python is the accelerator's (`asgi_wasm/accelerator`).

The C code goes the straight way of `Lent` and keeps its fields. What it knows of names, methods and plans it is told
here; whatever is not straight it leaves to `Lent`'s own methods, at the point where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator, Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Protocol, cast

from asgi_wasm.asgi.lane import pieces
from asgi_wasm.asgi.lane.lent import Lent
from asgi_wasm.asgi.lane.uploads import Upload
from asgi_wasm.asgi.messages import translate
from asgi_wasm.asgi.messages.first import begin_reading
from asgi_wasm.asgi.own_scope import guarded_scope
from asgi_wasm.asgi.properties import NO_PROPERTIES, PluginProperties, properties_of
from asgi_wasm.errors import EngineError

if TYPE_CHECKING:
    from asgi_wasm.asgi.lane.service import Service
    from asgi_wasm.asgi.types import Message, Receive, Scope, Send
    from asgi_wasm.host.resident.native import Accelerator
    from asgi_wasm.host.resident.post import Post

# What `accelerator.h` calls so.
HIDDEN, HOST, LENGTH, CODING, TYPE, COOKIE, EXPECT = (1 << bit for bit in range(7))
_TAKES_REQUEST, _TAKES_RESPONSE, _TAKES_LOG, _TAKES_END, _TAKES_RESPONSE_BODY, _TAKES_REQUEST_BODY = (
    1 << bit for bit in range(6)
)
_SEES_RESPONSE, _SEES_REQUEST_BODY, _SEES_RESPONSE_BODY, _SETS_PROPERTIES, _CHANGES_REQUEST_BODY = (
    1 << bit for bit in range(5)
)
# What becomes of a request after a crossing: the third, it did what is not straight; the fourth, it has left before.
_CALL_APP, _SEND_ANSWER, _HAND_BACK, _GONE, _FIND_ANSWER = range(5)

_TEXTS = {
    text: text.encode()
    for text in (*("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"), "http", "https")
}


# Serves one HTTP request.
Serve = Callable[["Scope", "Receive", "Send"], Awaitable[None]]


class Course(Protocol):
    """What is known of all requests of one chain of filters."""

    def open(self, scope: Scope, receive: Receive, send: Send, /) -> NativeRequest | None:
        """A request; None for one that is to go another way."""
        ...

    def run(self, scope: Scope, receive: Receive, send: Send, /) -> Awaitable[None]:
        """See `Lane.run`: a request, or what serves those that go another way."""
        ...


class NativeRequest(Lent):
    """`Lent`, where the accelerator does not go on.

    To be awaited: that serves the request, as `LentRequest.run` does. The class beside it, in C, goes the straight way,
    and calls the methods here where it ends: each gets what became of the last crossing, or the error of that.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def __await__(self) -> Generator[Any, None, None]:
            """Serve the request. Raises what the app raises, unless a plugin has answered already."""

        def end(self) -> int:
            """End the streams, once; `_HAND_BACK` after a callback that did what is not straight, `_GONE` as below."""

    # An error that goes on is let go of by each frame that it passes: it keeps them, and with them this request.

    async def begin_otherwise(self, then: int | None, error: BaseException | None) -> None:
        """After headers that did not all pass."""
        try:
            if error is not None:
                self._failed(error)
            elif then == _HAND_BACK or (then == _FIND_ANSWER and not self._finds_answer()):
                self.leave_after_callback(self.posts[self.index])
        finally:
            del error
        await self.go_on()

    async def app_raised(self, _: None, error: BaseException) -> None:
        """What follows on an app that raised."""
        try:
            # `conclude` looks at what is being handled.
            raise error
        except BaseException:
            if not await self.conclude(error):
                raise
        finally:
            del error

    async def answer_raised(self, _: None, error: BaseException) -> None:
        """What follows on a server that raised when an answer was sent."""
        try:
            raise error
        except BaseException:
            await self.conclude(error)
            raise
        finally:
            del error

    async def close_otherwise(self, then: int | None, error: BaseException | None) -> None:
        """After an end of the streams that was not straight."""
        try:
            if error is not None:
                self._failed(error)
            elif then == _HAND_BACK:
                self._leave_end()
            elif then == _GONE:
                await self.conclude(None)
                return
        finally:
            del error
        if self.request is not None:
            await self.request.end()

    def end_otherwise(self, then: int, error: BaseException | None) -> None:
        """The same, when the last of the response was sent."""
        try:
            if error is not None:
                self._failed(error)
            elif then == _HAND_BACK:
                self._leave_end()
        finally:
            del error
        if self.request is not None:
            self.request.finish()

    async def answer_otherwise(self, then: int | None, error: BaseException | None) -> None:
        """After the response's headers of an answer that did not all pass."""
        self._leave_crossing(error)
        assert self.request is not None
        await self.request.go_on_answering(self.verdict)

    async def answer_piece_otherwise(self, then: int | None, error: BaseException | None) -> None:
        """After the body of an answer that did not all pass."""
        self._leave_crossing(error)
        assert self.request is not None
        await self.request.answer_piece(pieces.way_from(self, self.index))

    def piece_otherwise(self, message: Message, error: BaseException | None) -> Awaitable[None]:
        """The app's `send`, after a callback for a piece of a body that was not straight."""
        sent = None if error is not None else pieces.send_after(self, message)
        if sent is not None:
            return sent
        self._leave_crossing(error)
        assert self.request is not None
        return self.request.send_piece(message, pieces.way_from(self, self.index))

    def piece_misfits(self, message: Message) -> Awaitable[None]:
        """The app's `send` for a whole body that is not as long as its head says."""
        return pieces.send_misfit(self, message)

    def _leave_crossing(self, error: BaseException | None) -> None:
        try:
            if error is not None:
                self._failed(error)
            else:
                self.leave_after_callback(self.posts[self.index])
        finally:
            del error

    def hear_unread(self, message: Message) -> None:
        """What the client says of a body that no plugin looks at, where that is not straight: `Lent.app_receive`."""
        if message["type"] == "http.disconnect":
            self.client_gone = True
        elif not self.client_ended:
            self.client_ended = not message.get("more_body", False)
            self.request_size += len(message.get("body", b""))

    def send_portably(self, message: Message) -> Awaitable[None]:
        """The app's `send`, for a message that no plugin has seen."""
        return Lent.app_send(self, message)

    def answer_without_kernel(self, message: Message, error: BaseException | None) -> Awaitable[None]:
        """The app's `send`, after a callback that failed or did what is not straight."""
        self._leave_crossing(error)
        assert self.request is not None
        return self.request.go_on_responding(message, self.verdict)

    def finish(self) -> None:
        """`Lent.finish`, entered by the accelerator."""
        try:
            then = self.end()
        except EngineError as error:
            self._failed(error)
        else:
            if then == _HAND_BACK:
                self._leave_end()

    def _leave_end(self) -> None:
        post = self.posts[self.index]
        self.leave_after_callback(post)
        if post.effects:
            post.vm.perform()


class NativeUpload(Upload, NativeRequest):
    """An `Upload` whose callbacks the accelerator runs, as it does those of a `NativeRequest`."""

    __slots__ = ()

    def hear_after(self, message: Message, error: BaseException | None) -> Message | None:
        """`hear`, after the callback of ``index`` that was shown this and was not straight, or failed."""
        self.odd, self.way = message, None
        data, end = message.get("body", b""), not message.get("more_body", False)
        if error is None:
            changed = self._changed(data)
            return None if changed is None else self._passed(message, end, self._show(changed, end, self.index))
        self._failed(error)
        self._stop(data)
        return None


def request_type(accelerator: Accelerator) -> type[NativeRequest]:
    """The class of this accelerator's requests."""
    return cast("type[NativeRequest]", accelerator.request_type(NativeRequest))


def upload_type(accelerator: Accelerator) -> type[NativeUpload]:
    """Of those with a body that plugins look at."""
    return cast("type[NativeUpload]", type("NativeUpload", (accelerator.Upload, NativeUpload), {"__slots__": ()}))


def course_of(
    lane: Service, posts: Sequence[Post], otherwise: Serve, looked: Callable[..., Awaitable[None]]
) -> Course | None:
    """What makes requests for these filters; None where there is no accelerator."""
    kernels = [post.resident.native for post in posts]
    accelerator = lane.plan.accelerator
    if accelerator is None or not posts or None in kernels:
        return None
    plan = lane.plan
    sees = (
        _SEES_RESPONSE * plan.sees_response
        | _SEES_REQUEST_BODY * plan.sees_body.request
        | _SEES_RESPONSE_BODY * plan.sees_body.response
        | _SETS_PROPERTIES * plan.may_set_properties
        | _CHANGES_REQUEST_BODY * plan.changes_body.request
    )

    def guard(scope: Scope, properties: dict[bytes, bytes]) -> dict[str, Any]:
        return guarded_scope(scope, lane.plan, properties)

    return cast(
        "Course",
        accelerator.Course(
            *(request_type(accelerator), upload_type(accelerator), lane.app, lane, list(posts), otherwise, looked),
            tuple(_told(post, kernel) for post, kernel in zip(posts, kernels, strict=True)),
            *(sees, _meanings(), _TEXTS, lane.answers.known, PluginProperties, NO_PROPERTIES, properties_of, guard),
            # On Linux it reads that clock itself.
            *(translate.header_pairs, None if sys.platform == "linux" else monotonic_ns, begin_reading),
        ),
    )


def _told(post: Post, kernel: object) -> tuple[object, ...]:
    takes = (
        _TAKES_REQUEST * post.takes_request
        | _TAKES_RESPONSE * post.takes_response
        | _TAKES_LOG * post.takes_log
        | _TAKES_END * post.takes_end
        | _TAKES_RESPONSE_BODY * (post.response_body is not None)
        | _TAKES_REQUEST_BODY * (post.show_request is not None)
    )
    vm = post.vm
    return kernel, post, vm, post.root, vm.lent, vm.contexts, post.effects, post.root_id, post.most, takes


def _meanings() -> dict[bytes, int]:
    """What each name that is not like all others means."""
    found = dict.fromkeys(translate.HIDDEN, HIDDEN)
    for names, meaning in (
        ((b"host",), HOST),
        ((b"content-length",), LENGTH),
        ((b"transfer-encoding",), CODING),
        ((b"content-type",), TYPE),
        ((b"cookie",), COOKIE),
        ((b"expect",), EXPECT),
    ):
        for name in names:
            found[name] = found.get(name, 0) | meaning
    return found
