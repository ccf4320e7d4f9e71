"""Waiting: `asyncio.wait` that leaves no cycle behind when it is cancelled, and what timers are made by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Protocol


class Timers(Protocol):
    """Those of an event loop, or of a clock that a test moves."""

    def time(self) -> float:
        """Seconds since some moment."""
        ...

    def call_later(self, seconds: float, function: Callable[..., object], /) -> asyncio.TimerHandle:
        """Run a function once so many seconds are over."""
        ...


async def wait(
    futures: Collection[asyncio.Future[Any]], return_when: str = asyncio.ALL_COMPLETED, timeout: float | None = None
) -> None:
    """Await them, or the first, for ``timeout`` seconds at most; a cancelled call cancels none of them.

    From CPython 3.14 on the frame of `asyncio.wait` knows the task that waits, and the task keeps its
    `CancelledError`, whose traceback keeps all frames: a cycle that would keep the whole stream, or
    call. So ours begins here.
    """
    try:
        await asyncio.wait(futures, return_when=return_when, timeout=timeout)
    except asyncio.CancelledError as error:
        raise error.with_traceback(None)  # noqa: B904  # the same one
