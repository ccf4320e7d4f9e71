"""The event loop that a worker belongs to."""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop  # documented: as `get_running_loop`, but None where none runs
from collections.abc import Callable
from weakref import ref


class HomeLoop:
    """The loop that runs when this is made, or that none does. It is not kept alive."""

    def __init__(self) -> None:
        loop = _get_running_loop()
        self._loop = None if loop is None else ref(loop)

    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop; None when it is gone, or when there was none."""
        return None if self._loop is None else self._loop()

    def runs_here(self) -> bool:
        """Whether the caller runs in it."""
        running = _get_running_loop()
        return running is None if self._loop is None else running is not None and running is self._loop()

    @property
    def is_over(self) -> bool:
        """Whether it will never run again."""
        loop = self.loop()
        return loop is None or loop.is_closed()

    def soon(self, callback: Callable[[], object]) -> None:
        """Run ``callback`` in it, from whichever thread. Raises RuntimeError when it is over."""
        loop = self.loop()
        if loop is None:
            raise RuntimeError("the event loop is gone")
        if _get_running_loop() is loop:
            loop.call_soon(callback)
        else:
            loop.call_soon_threadsafe(callback)
