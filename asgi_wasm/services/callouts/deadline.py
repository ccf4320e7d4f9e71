"""A time limit on a part of a task, and a way to end that part from outside."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

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
        self._task: asyncio.Task[Any] | None = None
        self._ended_by: Exception | None = None

    def __enter__(self) -> None:
        if self._ended_by is not None:
            self._raise()
        self._task = asyncio.current_task()
        if self._seconds is not None:
            call_later = self._call_later or asyncio.get_running_loop().call_later
            self._timer = call_later(self._seconds, self._expire)

    def _expire(self) -> None:
        self.end(asyncio.TimeoutError())

    def end(self, error: Exception) -> None:
        """Let it raise ``error`` at once. Nothing happens when it ends already."""
        if self._ended_by is None:
            self._ended_by = error
            if self._task is not None:
                self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        timer, self._timer = self._timer, None
        task, self._task = self._task, None
        if timer is not None:
            timer.cancel()
        if self._ended_by is None or kind is not asyncio.CancelledError:
            return
        if sys.version_info >= (3, 11) and task is not None and task.uncancel() > 0:
            # Somebody else has cancelled the task as well.
            return
        self._raise()

    def _raise(self) -> None:
        # Nowhere kept: an exception keeps its frames, and what they have.
        ended_by, self._ended_by = self._ended_by, None
        try:
            if ended_by is not None:
                raise ended_by from None
        finally:
            del ended_by
