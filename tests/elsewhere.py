"""A server in an event loop and a thread of its own, for tests that block theirs or have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

from tests.waiting import SECONDS

_Server = TypeVar("_Server")


@contextmanager
def elsewhere(server: Callable[[], AbstractAsyncContextManager[_Server]]) -> Iterator[_Server]:
    """What ``server`` gives, for as long as a `with` lasts. Raises AssertionError when it does not come up."""
    ready: list[_Server] = []
    stops: list[Callable[[], object]] = []
    there = threading.Event()

    async def main() -> None:
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        async with server() as running:
            ready.append(running)
            stops.append(lambda: loop.call_soon_threadsafe(over.set))
            there.set()
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert there.wait(SECONDS)
    try:
        yield ready[0]
    finally:
        stops[0]()
        thread.join()
