"""What a server calls, where the accelerator does not stand there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asgi_wasm.asgi.lane.native import Course
    from asgi_wasm.asgi.types import Receive, Scope, Send


class Door:
    """The base of the middleware; the accelerator has another of the same name (`accelerator/door.c`).

    That one, while it is open, makes the request that the server awaits without a call of Python. Shut, and for
    whatever is not straight, it calls `serve_connection`, which tells it what to open to.
    """

    # Whether it asks to be told.
    is_shut = False

    if TYPE_CHECKING:

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            """One ASGI connection. Scope types other than HTTP, WebSocket and lifespan pass unchanged."""

    def open_to(self, mark: Callable[[], object], here: object, course: Course | None, /) -> None:
        """All HTTP requests are ``course``'s for as long as ``mark`` gives ``here``; none are where that is None."""

    def shut(self) -> None:
        """Whoever comes is Python's, which may open it again."""
