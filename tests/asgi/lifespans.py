"""Servers and apps that speak the lifespan protocol."""

from __future__ import annotations

import asyncio
from typing import Any

from asgi_wasm.asgi.types import ASGIApp, Message
from asgi_wasm.testing import Hostcalls
from tests.driving import SECONDS
from tests.guests import Guest

STARTUP, SHUTDOWN = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}


class Server:
    """The server's side of one lifespan call."""

    def __init__(self, app: ASGIApp) -> None:
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[str] = []
        self.messages: list[Message] = []
        self.answered = asyncio.Event()
        self.scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self.task = asyncio.ensure_future(self._run(app))

    async def _run(self, app: ASGIApp) -> None:
        await app(self.scope, self.incoming.get, self._send)

    async def _send(self, message: Message) -> None:
        self.messages.append(message)
        self.sent.append(message["type"].removeprefix("lifespan."))
        self.answered.set()

    async def ask(self, message: Message) -> Message:
        """Send and wait for the answer."""
        self.answered.clear()
        self.incoming.put_nowait(message)
        await asyncio.wait_for(self.answered.wait(), SECONDS)
        return self.messages[-1]

    async def over(self) -> None:
        await asyncio.wait_for(self.task, SECONDS)


def recorded(order: list[str]) -> Guest:
    roots: list[int] = []

    def on_configure(api: Hostcalls, root: int, size: int) -> int:
        roots.append(root)
        order.append("plugin starts")
        return 1

    def on_done(api: Hostcalls, context: int) -> int:
        # Streams have an end too.
        if context in roots:
            order.append("plugin stops")
        return 1

    return Guest(on_configure=on_configure, on_done=on_done)
