"""How far a request has come, on the ASGI side, by the time that an exchange takes it over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from asgi_wasm.asgi.types import Message
    from asgi_wasm.host.streams.direction import PieceWay


@dataclass
class Progress:
    """What the lane knows of a request whose app is running."""

    client_ended: bool
    # The request's method, as the app sees it.
    method: str
    # See `first.Told`; None once the app has it.
    first: Message | None = None
    client_gone: bool = False
    # The app awaits the server's own `receive` at this moment.
    app_is_reading: bool = False
    # The app's start message, once its headers are on their way to the client.
    response: Message | None = None
    # It waits for the first verdict on the body.
    held: bool = False
    bytes_out: int = 0
    # There is a body that plugins look at. What all of them let pass: so much, of which the app has yet to read these.
    shows_body: bool = False
    bytes_in: int = 0
    unread: list[Message] = field(default_factory=list)
    # The message after them, before the app is called, and how far it has come.
    ahead: Message | None = None
    way: PieceWay | None = None
    # See `first.Told`.
    reading: asyncio.Future[Message] | None = None
    complete: bool = False
    # It is because the response ended with its head: the app may still send a body, which goes nowhere.
    drops_body: bool = False
