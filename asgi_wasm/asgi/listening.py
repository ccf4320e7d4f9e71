"""Waiting for a WebSocket's client and for something else at once, with one `receive` of the server at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Message, Receive


class Listening:
    """What the client said before the app asked, and whether it is there. Any number of tasks may `step`.

    A call of the server's `receive` outlives the task that began it: cancelled, it could take a message with it.
    """

    def __init__(self, receive: Receive) -> None:
        self.heard: deque[Message] = deque()
        # It has said `websocket.connect`, before which a server takes no answer; it has gone.
        self.connected = False
        self.gone = False
        self._receive = receive
        self._reading: asyncio.Future[Message] | None = None
        self._change: asyncio.Future[None] | None = None

    @property
    def listens(self) -> bool:
        """Whether a call of `receive` is under way."""
        return self._reading is not None

    async def step(self, timeout: float | None = None) -> bool:
        """Await the client's next message, or `notify`. False when ``timeout`` seconds have passed without either.

        Raises what the server's `receive` raises.
        """
        if self._change is None or self._change.done():
            self._change = asyncio.get_running_loop().create_future()
        waiting: set[asyncio.Future[Any]] = {self._change}
        if self._reading is None and self._may_read:
            self._reading = asyncio.ensure_future(self._receive())
        if self._reading is not None:
            waiting.add(self._reading)
        done, _ = await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        reading = self._reading
        if reading is not None and reading.done():
            self._reading = None
            try:
                self._hear(reading.result())
            finally:
                self.notify()
        return bool(done)

    def notify(self) -> None:
        """Let every `step` return."""
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    async def close(self) -> None:
        """Cancel what is under way."""
        if self._reading is not None and not self._reading.done():
            self._reading.cancel()
            await asyncio.wait([self._reading])

    @property
    def _may_read(self) -> bool:
        """No further than one frame ahead: a client sends none before it is accepted (RFC 6455 4.1)."""
        return not self.gone and len(self.heard) < 2

    def _hear(self, message: Message) -> None:
        self.heard.append(message)
        self.connected = True
        self.gone = message["type"] == "websocket.disconnect"
