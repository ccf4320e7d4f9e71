"""Time that stands still until a test moves it: the host's clock, ticks, and the timeouts of calls and pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any, cast

_SECOND = 1_000_000_000
# A date that nobody takes for the present one: 2023-11-14T22:13:20Z.
_BEGIN = 1_700_000_000 * _SECOND
# Turns of the event loop after which whatever was ready has run: a call's answer takes about ten.
_TURNS = 50


def _nothing() -> None:
    """Nothing to check."""


class _Timer:
    """What `call_later` gives back: enough of an `asyncio.TimerHandle` for `services.ticks`."""

    def __init__(self, due: int, number: int, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.key = due, number
        self.due = due
        self.run: Callable[[], object] = lambda: function(*arguments)
        self.is_cancelled = False

    def cancel(self) -> None:
        """Never run it, and keep nothing of what it would have run."""
        self.is_cancelled = True
        self.run = lambda: None


class ManualClock:
    """`host.ports.Clock`, in nanoseconds. It begins at the second 1,700,000,000 of the Unix epoch."""

    def __init__(self) -> None:
        self.now = _BEGIN
        self._timers: list[_Timer] = []
        self._numbers = count()

    def realtime(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return self.now

    def monotonic(self) -> int:
        """The same number."""
        return self.now

    def time(self) -> float:
        """The same in seconds, as an event loop tells it."""
        return self.now / _SECOND

    def call_later(self, seconds: float, function: Callable[..., object], *arguments: Any) -> asyncio.TimerHandle:
        """Run a function once the clock has been moved so far."""
        timer = _Timer(self.now + int(seconds * _SECOND), next(self._numbers), function, arguments)
        self._timers.append(timer)
        return cast("asyncio.TimerHandle", timer)

    async def sleep(self, seconds: float) -> None:
        """Return once the clock has been moved so far."""
        moved = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, moved.set_result, None)
        try:
            await moved
        finally:
            timer.cancel()

    async def advance(self, seconds: float, check: Callable[[], object] = _nothing) -> None:
        """Move the clock. What becomes due runs in its order, each at its own time, with all that follows from it.

        ``check`` is called in between, and may raise.
        """
        end = self.now + int(seconds * _SECOND)
        await settle(check)
        while due := [timer for timer in self._timers if timer.due <= end and not timer.is_cancelled]:
            timer = min(due, key=lambda each: each.key)
            self._timers.remove(timer)
            self.now = max(self.now, timer.due)
            timer.run()
            await settle(check)
        self._timers = [timer for timer in self._timers if not timer.is_cancelled]
        self.now = end


async def settle(check: Callable[[], object] = _nothing) -> None:
    """Let everything run that is ready to. ``check`` is called in between, and may raise."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)
        check()
