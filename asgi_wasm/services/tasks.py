"""Tasks that end with the service that started them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from asgi_wasm.logs import get_logger

# Seconds that a cancelled task may take to clean up before the server's stop goes on without it.
STOP_SECONDS = 5.0

logger = get_logger("asgi_wasm.host")


class Tasks:
    """A set of tasks of the running event loop."""

    def __init__(self) -> None:
        # Each with whom it is for.
        self._running: dict[asyncio.Task[None], object] = {}
        self._closed = False

    def start(self, work: Coroutine[Any, Any, None], owner: object = None) -> asyncio.Task[None] | None:
        """Run it, for ``owner``.

        After `close` it is dropped: a plugin that is told of its end may still ask for something.
        """
        if self._closed:
            work.close()
            return None
        task = asyncio.get_running_loop().create_task(work)
        self._running[task] = owner
        task.add_done_callback(self._running.pop)
        return task

    @property
    def under_way(self) -> bool:
        """Whether any runs."""
        return bool(self._running)

    def cancel(self, owner: object) -> None:
        """Cancel what is under way for ``owner``."""
        for task, found in self._running.items():
            if found is owner:
                task.cancel()

    async def close(self) -> None:
        """Cancel what is under way, and wait for it."""
        self._closed = True
        running = set(self._running)
        for task in running:
            task.cancel()
        if running:
            _, pending = await asyncio.wait(running, timeout=STOP_SECONDS)
            if pending:
                logger.warning(
                    "%d calls of plugins went on for %g s after they were cancelled", len(pending), STOP_SECONDS
                )

    def abandon(self) -> None:
        """`close` when the event loop is closed: what is under way never goes on."""
        self._closed = True
        self._running.clear()
