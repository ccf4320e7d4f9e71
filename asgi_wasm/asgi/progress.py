"""How far a request has come, on the ASGI side, by the time that an exchange takes it over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Message


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
    complete: bool = False
