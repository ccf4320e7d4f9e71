"""The way to the client: what is ready goes out in order, whoever is there to send it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Message, Send


class Outlet:
    """Sends ``messages``, which something else fills.

    ``gone`` is called when the client turns out to have gone, ``sent`` when the server has been handed all there was.
    """

    def __init__(
        self, send: Send, messages: deque[Message], gone: Callable[[], None], sent: Callable[[], None]
    ) -> None:
        self._server_send = send
        self._messages = messages
        self._gone = gone
        self._sent = sent
        # How many calls of ours feed the chain now, and flush what comes of it afterwards.
        self.drivers = 0
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        # Why the server would not take what the task sent.
        self._error: Exception | None = None

    async def flush(self) -> None:
        """Send all there is, and come back when nothing is under way any more. Raises what the server raises."""
        messages = self._messages
        if messages or self._lock.locked():
            async with self._lock:
                while messages:
                    await self._server_send(messages.popleft())
                self._sent()
        if self._error is not None:
            raise self._error

    async def send(self, message: Message) -> None:
        """Send this one, after those under way."""
        async with self._lock:
            await self._server_send(message)
            self._sent()

    def flush_soon(self) -> None:
        """Send all there is in a task, for want of anybody who could await it. What goes wrong is for `flush`."""
        if self._messages and (self._task is None or self._task.done()):
            self._task = asyncio.ensure_future(self._flush_alone())

    async def _flush_alone(self) -> None:
        try:
            await self.flush()
        except OSError:
            # ASGI 2.4: sending to a client that has gone raises OSError.
            self._gone()
        except Exception as error:
            self._error = error

    def give_task(self) -> asyncio.Task[None] | None:
        """Let go of the task of `flush_soon`: it is to be cancelled at the end if it is not done."""
        task, self._task = self._task, None
        return task
