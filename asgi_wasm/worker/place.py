"""What a middleware has in one event loop: its worker, and those before a reload that still have work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from asgi_wasm.services.home import HomeLoop

if TYPE_CHECKING:
    from asgi_wasm.worker.worker import Worker

# Seconds between a start that failed and the next one: at least, at most, and by the time that it took.
_LEAST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_PAUSE_FACTOR = 10

# Seconds between two looks at a worker that is to end when it has no work any more.
_LOOK_SECONDS = 0.05


class Place:
    """To be made in its event loop."""

    def __init__(self) -> None:
        self.home = HomeLoop()
        # Held while plugins start or stop.
        self.lock = asyncio.Lock()
        self.worker: Worker | None = None
        # Closed when the event loop ends (`Workers`).
        self.life: AsyncGenerator[None, None] | None = None
        self.watching: asyncio.Task[None] | None = None
        self._draining: dict[Worker, asyncio.Task[None]] = {}
        # By the loop's time, when a request may start plugins again.
        self._next_start = 0.0

    @property
    def may_start(self) -> bool:
        """Whether it is not too early after a start that failed: each request would try it anew."""
        return asyncio.get_running_loop().time() >= self._next_start

    def start_failed(self, began: float) -> None:
        """It ``began`` then, by the loop's time."""
        now = asyncio.get_running_loop().time()
        self._next_start = now + min(max((now - began) * _PAUSE_FACTOR, _LEAST_PAUSE), _LONGEST_PAUSE)

    def reload_ended(self, outcome: str) -> None:
        """Count it among the "done" or the "refused", where plugins run."""
        if self.worker is not None:
            self.worker.environment.host_metrics.reload_ended(outcome)

    @property
    def draining(self) -> int:
        """Workers from before a reload that still have work."""
        return len(self._draining)

    async def replace(self, fresh: Worker) -> None:
        """Give new requests to ``fresh``. The worker before it ends what it has begun, in its drain timeout at most."""
        old, self.worker = self.worker, fresh
        if old is None:
            return
        if old.is_idle():
            await old.stop()
        else:
            self._draining[old] = asyncio.get_running_loop().create_task(self._drain(old, fresh.drain_timeout))

    async def _drain(self, worker: Worker, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        # Requests tell nobody of their end, since each would pay for it.
        while loop.time() < deadline and not worker.is_idle():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)
        if self._draining.pop(worker, None) is not None:
            await worker.stop()

    async def end(self) -> None:
        """Stop every worker."""
        workers = self._taken()
        watching, self.watching = self.watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.wait([watching])
        for worker in workers:
            # Nobody has the middleware any more: the garbage collector may have freed VMs before it let this run.
            if worker.is_whole():
                await worker.stop()
            else:
                worker.abandon()

    def abandon(self) -> None:
        """`end` when the event loop is closed. From any thread."""
        self.watching = None
        for worker in self._taken():
            worker.abandon()

    def _taken(self) -> list[Worker]:
        """The workers, which nobody has any more."""
        worker, self.worker = self.worker, None
        draining, self._draining = self._draining, {}
        if not self.home.is_over:
            for task in draining.values():
                task.cancel()
        return [*draining, *([] if worker is None else [worker])]
