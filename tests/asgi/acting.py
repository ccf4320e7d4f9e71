"""What tests put into plugins: callbacks that only pass or pause, and a way to act inside of a plugin later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgi_wasm.testing import Hostcalls
from tests.driving import Connection, answering, settled, until
from tests.guests import CONTINUE, PAUSE, RESPONSE, Guest, Serve


def passing(*_: Any) -> int:
    """A callback that looks at nothing."""
    return CONTINUE


def pausing(*_: Any) -> int:
    """A callback that waits for something."""
    return PAUSE


class Resumer:
    """Lets a test act inside of the plugin at a moment of its own: what it gives is done in the next tick."""

    def __init__(self) -> None:
        self.todo: list[Any] = []

    def on_configure(self, api: Hostcalls, root: int, size: int) -> int:
        api.set_tick_period_milliseconds(2)
        return 1

    def on_tick(self, api: Hostcalls, root: int) -> None:
        for action in self.todo:
            action(api)
        self.todo.clear()

    def later(self, action: Any) -> None:
        """Do it in the next tick."""
        self.todo.append(action)

    def holds(self, api: Hostcalls, context: int, *_: int) -> int:
        """A callback that pauses; the next tick resumes its response."""
        self.later(lambda late: (late.set_effective_context(context), late.continue_stream(RESPONSE)))
        return PAUSE

    async def done(self) -> None:
        """Wait until it was done and whatever follows had its turn."""
        await until(lambda: not self.todo)
        await settled()

    @property
    def callbacks(self) -> dict[str, Any]:
        """To be given to the `Guest`."""
        return {"on_configure": self.on_configure, "on_tick": self.on_tick}


@asynccontextmanager
async def flushed_to_a_slow_client(serve_guests: Serve) -> AsyncIterator[Connection]:
    """A response of two pieces, `a` and `b`, that a plugin held and has let go of; its client takes nothing yet."""
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing, **resumer.callbacks)
    async with serve_guests(answering(b"a", b"b"), guest) as middleware:
        connection = Connection(middleware)
        connection.feed()
        await settled()
        connection.gate.clear()
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(RESPONSE)))
        await resumer.done()
        yield connection
