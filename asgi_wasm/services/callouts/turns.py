"""Shares the event loop between calls that are answered all at once, and everybody else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter

# In one iteration of the event loop: seconds, and pieces of work, since what they set going costs as much again.
_SLICE_SECONDS = 0.001
_SLICE_PIECES = 8


class Turns:
    """Does small pieces of work in the order in which they came, a few in each iteration of the event loop.

    A thousand sockets that become readable together are a thousand callbacks in one iteration; parsed there, and given
    to plugins, they would hold the loop for as long as all of them take.
    """

    def __init__(self) -> None:
        self._fresh: deque[Callable[[], object]] = deque()
        # What has had a turn and wants another: of a flood there is always more.
        self._continued: deque[Callable[[], object]] = deque()
        self._is_scheduled = False

    def soon(self, work: Callable[[], object], *, again: bool = False) -> None:
        """Do it in its turn: in a later callback of the running loop. It must not take long, nor raise.

        ``again`` is for what goes on with something: in each iteration there is a turn for one of those, and more only
        when nobody else waits.
        """
        (self._continued if again else self._fresh).append(work)
        if not self._is_scheduled:
            self._schedule()

    async def turn(self) -> None:
        """Wait for one's turn."""
        turn = asyncio.get_running_loop().create_future()
        self.soon(lambda: _give(turn))
        await turn

    def _schedule(self) -> None:
        self._is_scheduled = True
        asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        end = perf_counter() + _SLICE_SECONDS
        self._is_scheduled = False
        try:
            if self._continued:
                self._continued.popleft()()
            for _ in range(min(_SLICE_PIECES, len(self._fresh) + len(self._continued))):
                if perf_counter() > end:
                    break
                (self._fresh or self._continued).popleft()()
        finally:
            if (self._fresh or self._continued) and not self._is_scheduled:
                self._schedule()


def _give(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
