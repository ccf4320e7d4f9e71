"""Work that blocks, and may never end, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

_Result = TypeVar("_Result")


async def in_thread(work: Callable[[], _Result], seconds: float) -> _Result:
    """What ``work`` gives back or raises. Raises `asyncio.TimeoutError` when it takes longer.

    It runs on all the same, since no thread can be ended; but unlike one of the event loop's own (`asyncio.to_thread`)
    this one keeps no process from ending.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

    def end(result: _Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None only if that is a result

    def run() -> None:
        result: _Result | None = None
        failed: BaseException | None = None
        try:
            result = work()
        except BaseException as error:
            failed = error
        try:
            loop.call_soon_threadsafe(end, result, failed)
        except RuntimeError:
            # The event loop is closed: nobody waits any more.
            return

    # In the caller's context, as `asyncio.to_thread` has it.
    context = copy_context()
    threading.Thread(target=context.run, args=(run,), name="asgi-wasm compiler", daemon=True).start()
    return await asyncio.wait_for(future, seconds)
