"""The worker that was asked for last, and by what to know its event loop again."""

from __future__ import annotations

import sys
from asyncio import _get_running_loop  # documented: as `get_running_loop`, but None where none runs
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asgi_wasm.worker.worker import Worker

# What gives the same object for as long as one event loop runs on the thread that asks; that object; the worker.
Last = tuple["Callable[[], object]", object, "Worker | None"]
NOBODY: Last = (_get_running_loop, None, None)


def last_of(worker: Worker) -> Last:
    """That of the running event loop."""
    mark = _mark_for(worker)
    return mark, mark(), worker


def _mark_for(worker: Worker) -> Callable[[], object]:
    """Before CPython 3.12, asyncio makes a system call to tell the running loop; the accelerator makes none."""
    lane = worker.sole_lane
    accelerator = None if lane is None else lane.plan.accelerator
    if accelerator is None or sys.version_info >= (3, 12) or accelerator.loop_mark() is None:
        return _get_running_loop
    return accelerator.loop_mark
