"""The connections to one upstream: made when a call finds none idle, kept for a few seconds."""

from __future__ import annotations

import asyncio
from collections import deque

from asgi_wasm.services.callouts.connector import Connector
from asgi_wasm.services.callouts.http1 import Http1Connection
from asgi_wasm.services.callouts.messages import Answer, Request
from asgi_wasm.services.callouts.turns import Turns

# Seconds that an idle connection is kept. Many servers close theirs after five, and a call that has been sent by then
# is lost; those that keep them longer lose nothing.
IDLE_SECONDS = 4.0
SWEEP_SECONDS = 1.0


class Pool:
    """Connections of HTTP/1.1, each lent to one call at a time. The one that was used last is lent first."""

    def __init__(self, connector: Connector, turns: Turns) -> None:
        self._connector = connector
        self._turns = turns
        # Since when each is idle; the oldest first.
        self._idle: deque[tuple[float, Http1Connection]] = deque()
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    async def exchange(self, request: Request, answer: Answer) -> None:
        """One call. Raises `CalloutError`."""
        connection = self._take()
        if connection is None:
            connection = await self._connector.connect(lambda: Http1Connection(self._turns))
        await connection.exchange(request, answer)
        self.add(connection)

    def _take(self) -> Http1Connection | None:
        while self._idle:
            _, connection = self._idle.pop()
            if connection.is_usable:
                return connection
            connection.abort()
        return None

    def add(self, connection: Http1Connection) -> None:
        """Keep it for the next call, if it may have one."""
        if self._closed or not connection.is_usable:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        self._idle.append((loop.time(), connection))
        if self._sweeping is None:
            self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for too long."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - IDLE_SECONDS
        while self._idle and self._idle[0][0] <= oldest:
            self._turns.soon(self._idle.popleft()[1].abort)
        self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep) if self._idle else None

    async def close(self) -> None:
        """Close every idle connection; those that are lent close when they come back."""
        self._closed = True
        self._connector.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        while self._idle:
            self._idle.pop()[1].abort()
