"""Waiting for what nobody tells of: until it is so, and a minute at most, since a busy machine may be slow."""

from __future__ import annotations

import asyncio
import linecache
import time
from collections.abc import Callable

# A bound of what hangs, and of nothing else.
SECONDS = 60.0


async def until(condition: Callable[[], object], seconds: float = SECONDS) -> bool:
    """Wait, with the event loop, until it is true. True; raises AssertionError when that does not happen in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(_not_so(condition, seconds))
        await asyncio.sleep(0.001)
    return True


def wait_until(
    condition: Callable[[], object], told: Callable[[], object] = lambda: "", seconds: float = SECONDS
) -> None:
    """The same for a test that is no coroutine; ``told`` gives what helps to understand why it did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"{_not_so(condition, seconds)}\n{told()}")
        time.sleep(0.01)


def _not_so(condition: Callable[[], object], seconds: float) -> str:
    code = condition.__code__
    line = linecache.getline(code.co_filename, code.co_firstlineno).strip()
    return f"not within {seconds:g} s: {line} ({code.co_filename}:{code.co_firstlineno})"


# For the code of a server of several processes over LMDB: what one waits for another, which a busy machine may leave
# standing while it writes.
PATIENT_WRITERS = f"""
from asgi_wasm.services.stores.lmdb import writer
writer.PATIENCE_SECONDS = {SECONDS}
"""


def tasks() -> set[asyncio.Task[object]]:
    """The event loop's that are not over, but for those that the loop makes to close what the garbage collector found.

    A middleware that an earlier test, or an earlier turn of this one, has dropped ends so, at any time.
    """
    return {task for task in asyncio.all_tasks() if type(task.get_coro()).__name__ != "async_generator_athrow"}
