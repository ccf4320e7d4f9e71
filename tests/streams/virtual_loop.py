"""An event loop in which time passes as soon as nothing else is to be done."""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import Any

# Of real time, for what threads do: nothing in a stream takes any.
_REAL_SECONDS = 10.0


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.is_virtual = False

    def select(self, timeout: float | None = None) -> Any:
        if not self.is_virtual:
            began = time.monotonic()
            events = super().select(timeout)
            self.now += time.monotonic() - began
            return events
        if timeout is None:
            events = super().select(_REAL_SECONDS)
            assert events, "nothing will ever happen"
            return events
        events = super().select(0)
        if not events and timeout > 0:
            self.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time` is virtual once `pass_at_once` was called: a timer goes off when all that is ready has been run."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def pass_at_once(self) -> None:
        """From here on no thread does anything that somebody waits for."""
        self._virtual.is_virtual = True

    def time(self) -> float:
        # Timers are late by the clock's resolution, never early.
        return self._virtual.now + 1e-9
