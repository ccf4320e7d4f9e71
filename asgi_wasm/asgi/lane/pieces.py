"""Bodies of responses in the lane: each piece is shown to the plugins that look at bodies, by their kernels.

A piece that all of them let pass unchanged goes on as the message that it came in, a changed one as another. At the
first pause, effect or failure, or where what the head says of the length is not true any more, the request leaves its
kernels (`Lent.leave`), and an exchange goes on from that plugin: `PieceWay`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from asgi_wasm.asgi.exchange.endings import nothing
from asgi_wasm.asgi.lane.lent_state import BODY, IDLE
from asgi_wasm.asgi.messages.lengths import write
from asgi_wasm.errors import EngineError
from asgi_wasm.host.directions import RESPONSE
from asgi_wasm.host.streams.direction import PieceWay
from asgi_wasm.http_syntax import TOKEN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from asgi_wasm.asgi.lane.request import Request
    from asgi_wasm.asgi.types import Message, Send
    from asgi_wasm.host.resident.post import Post

_LENGTH = b"content-length"
CANONICAL = re.compile(rb"0|[1-9][0-9]{0,17}")
# Fields that are sent as they are, one after the other: `translate.response_start` would leave out or trim others.
_VALUE = rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?"
_FIELDS = re.compile(rb"(?:" + TOKEN.encode() + rb"\n" + _VALUE + rb"\n)*")


class Lent(Protocol):
    """A request of the lane (`asgi_wasm.asgi.lane.lent`), as far as it concerns a body."""

    posts: Sequence[Post]
    ids: list[int]
    phase: int
    index: int
    verdict: int | None
    message: Message | None
    held: Message | None
    bytes_out: int
    complete: bool
    server_send: Send
    request: Request | None

    def leave(self) -> Request: ...

    def leave_after_callback(self, post: Post) -> None: ...

    def fail(self, post: Post, error: EngineError) -> None: ...

    async def send_last(self, message: Message) -> None: ...


def length_of(start: Message) -> int | None:
    """What an ordinary start message announces; less than 0 where that, or a field, is not to be sent as it is."""
    length: int | None = None
    flat = []
    for name, value in start["headers"]:
        if name == _LENGTH:
            length = int(value) if CANONICAL.fullmatch(value) else -1
        flat += [name, value]
    flat.append(b"")
    return length if _FIELDS.fullmatch(b"\n".join(flat)) else -1


def show(
    lent: Lent, data: bytes, end: bool, *, before: int | None = None, may_change: bool = True
) -> tuple[bytes, PieceWay | None]:
    """Show a piece to each plugin that looks at bodies, the last first: what all let pass.

    With a way, the request has left its kernels, and the piece, as the next plugin was shown it, is to go on by that.
    ``before``: only to those before this one. Not ``may_change``: who changes it lets the request leave.
    """
    posts = lent.posts
    for index in range(len(lent.ids) - 1 if before is None else before - 1, -1, -1):
        post = posts[index]
        if post.response_body is None:
            continue
        keeper = post.pieces
        keeper.piece = data
        lent.index, lent.phase = index, BODY
        try:
            news = post.response_body(lent.ids[index], post.root_id, len(data), end)
        except EngineError as error:
            lent.fail(post, error)
            return data, way_from(lent, index)
        if news or post.effects:
            changed = _changed(lent, post, data, end) if may_change else None
            if changed is None:
                lent.leave_after_callback(post)
                return data, way_from(lent, index)
            data = changed
        keeper.piece = b""
    lent.phase = IDLE
    return data, None


def _changed(lent: Lent, post: Post, data: bytes, end: bool) -> bytes | None:
    """What the last callback made of it, where that is all it did, and the head says nothing else."""
    changed = None if post.effects else post.changed_piece()
    if changed is None or len(changed) == len(data):
        return changed
    if lent.held is not None:
        return changed if end else None
    assert lent.message is not None
    return changed if length_of(lent.message) is None else None


def way_from(lent: Lent, index: int) -> PieceWay:
    """From the filter whose callback was the last."""
    assert lent.request is not None
    lent.posts[index].pieces.piece = b""
    buffer = lent.request.passage.contexts[index].bodies[RESPONSE]
    return PieceWay(len(lent.ids) - 1 - index, lent.verdict, buffer)


def send(lent: Lent, message: Message, shown: tuple[bytes, PieceWay | None] | None = None) -> Awaitable[None]:
    """The app's `send` for a piece of a body that some plugin looks at. ``shown``: what has come of it already."""
    data, more = message.get("body", b""), message.get("more_body", False)
    end = not more
    if shown is None:
        # The app may call `send` from anywhere.
        lent.posts[0].vm.check_thread()
        if type(data) is not bytes:
            return lent.leave().send(message)
        shown = show(lent, data, end) if data or end else (data, None)
    passed, way = shown
    if passed is not data:
        message, data = {**message, "body": passed}, passed
        if way is None and end and lent.held is not None:
            lent.held = {**lent.held, "headers": write(lent.held["headers"], len(data))}
    if way is not None:
        assert lent.request is not None
        return lent.request.send_piece(message, way)
    if lent.held is not None:
        if end and length_of(lent.held) != len(data):
            return send_misfit(lent, message)
        return _send_held(lent, message) if data or end else nothing()
    lent.bytes_out += len(data)
    if end:
        lent.complete = True
        return lent.send_last(message)
    return lent.server_send(message) if data else nothing()


def send_after(lent: Lent, message: Message) -> Awaitable[None] | None:
    """`send` after a callback that was not straight: None where the request is to leave."""
    post, data, end = lent.posts[lent.index], message.get("body", b""), not message.get("more_body", False)
    changed = _changed(lent, post, data, end)
    if changed is None:
        return None
    post.pieces.piece = b""
    return send(lent, message, show(lent, changed, end, before=lent.index))


def send_misfit(lent: Lent, message: Message) -> Awaitable[None]:
    """All of them have seen it: what the head is to say is not for the lane to judge."""
    return lent.leave().send_piece(message, PieceWay(len(lent.ids), None, None))


async def _send_held(lent: Lent, message: Message) -> None:
    """Send the head that waited for the first verdict on the body, and this piece of it."""
    start, lent.held = lent.held, None
    assert start is not None
    lent.bytes_out += len(message.get("body", b""))
    lent.complete = end = not message.get("more_body", False)
    await lent.server_send(start)
    await (lent.send_last(message) if end else lent.server_send(message))
