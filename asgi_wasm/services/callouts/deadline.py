"""A time limit on a part of a task."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import TracebackType

# As an event loop's method.
CallLater = Callable[..., asyncio.TimerHandle]


class Deadline:
    """``with Deadline(seconds):`` raises `asyncio.TimeoutError` for what takes longer; None is for ever.

    `asyncio.timeout` is new in 3.11, and `asyncio.wait_for` before 3.12 loses a cancellation that comes in the moment
    in which the work ends, and leaves a cycle through each exception.
    """

    def __init__(self, seconds: float | None, call_later: CallLater | None = None) -> None:
        """``call_later`` is used in place of the running event loop's."""
        self._seconds = seconds
        self._call_later = call_later
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False

    def __enter__(self) -> None:
        if self._seconds is not None:
            task = asyncio.current_task()
            assert task is not None
            call_later = self._call_later or asyncio.get_running_loop().call_later
            self._timer = call_later(self._seconds, self._expire, task)

    def _expire(self, task: asyncio.Task[object]) -> None:
        self._expired = True
        task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if not self._expired or kind is not asyncio.CancelledError:
            return
        if sys.version_info >= (3, 11):
            task = asyncio.current_task()
            if task is not None and task.uncancel() > 0:
                # Somebody else has cancelled the task as well.
                return
        raise asyncio.TimeoutError from None
