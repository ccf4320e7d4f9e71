"""How far a request is whose headers are lent to kernels: what `lent` acts on, and `leaving` takes over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from asgi_wasm.asgi.lane.answers import Answer
    from asgi_wasm.asgi.lane.heads import Fields
    from asgi_wasm.asgi.lane.request import Request
    from asgi_wasm.asgi.lane.service import Service
    from asgi_wasm.asgi.types import Message, Receive, Scope, Send
    from asgi_wasm.host.resident.post import Post

# Which crossing runs.
IDLE, REQUEST, RESPONSE, BODY, LOG, FINISH = range(6)


class LentState:
    """One request. ``phase`` says which crossing runs, or has just run, for the filter ``index``.

    ``fields`` and ``response_fields`` are the headers as plugins have left them so far, which a kernel is lent anew for
    its log, since other requests were shown theirs meanwhile. ``request`` is what goes on instead, once this has left:
    from the filter ``index``, whose callback answered ``verdict`` (None: it is yet to run, or it failed).
    """

    if not TYPE_CHECKING:  # mypy takes what is declared below for what must be in it
        __slots__ = ()

    lane: Service
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
    # The response ends with its head: what the app sends as its body goes nowhere.
    drops_body: bool
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
    # See `heads.Head`.
    pseudo: list[bytes]
    fields: Fields
    # Whether plugins have changed them.
    changed: bool
    message: Message | None
    # None before the response's headers were shown.
    response_fields: Fields | None
    status: bytes | None
    response_changed: bool
    # The start message as plugins left it, while it waits for the first verdict on a body whose length it says.
    held: Message | None
    answer: Answer | None
    request: Request | None
    # None where no plugin can set any.
    properties: dict[bytes, bytes] | None
    verdict: int | None
    # See `progress.Progress`.
    shows_body: bool
    bytes_in: int
    unread: list[Message]
    reading: asyncio.Future[Message] | None
    # Of which direction a piece is, or was last, shown.
    body_of: int
