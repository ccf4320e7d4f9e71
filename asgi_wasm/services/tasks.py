"""Tasks that end with the service that started them, how many a plugin may have, and which stream asked for them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from asgi_wasm.host.ports import LimitReachedError
from asgi_wasm.host.vm.contexts import RootContext
from asgi_wasm.logs import get_logger

if TYPE_CHECKING:
    from asgi_wasm.host.vm.contexts import Vm

T = TypeVar("T")

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


@contextmanager
def share(root: RootContext, size: int) -> Iterator[None]:
    """One call more of so many bytes, for as long as the context lasts: no plugin takes what others need too.

    Raises `LimitReachedError`, and counts that: ``calls_under_way``, or ``callback_call_bytes`` unless no other call
    has any.
    """
    limits = root.spec.limits
    if root.calls_under_way >= limits.calls_under_way:
        _refuse(root, "calls_under_way", limits.calls_under_way)
    if root.other_call_bytes and root.other_call_bytes + size > limits.callback_call_bytes:
        _refuse(root, "callback_call_bytes", limits.callback_call_bytes)
    root.other_calls += 1
    root.other_call_bytes += size
    try:
        yield
    finally:
        root.other_calls -= 1
        root.other_call_bytes -= size


def _refuse(root: RootContext, limit: str, most: int) -> None:
    root.vm.ports.host_metrics.limit_reached(root.spec.name, limit)
    raise LimitReachedError(limit, most)


class ByStream(Generic[T]):
    """What is under way, by VM and stream context that asked for it."""

    def __init__(self) -> None:
        self._found: dict[tuple[Vm, int], set[T]] = {}

    def add(self, root: RootContext, stream_id: int, item: T) -> None:
        """Keep it until `discard`. Nothing for a ``stream_id`` of 0: no stream asked for it."""
        if stream_id:
            self._found.setdefault((root.vm, stream_id), set()).add(item)

    def discard(self, root: RootContext, stream_id: int, item: T) -> None:
        """It is over, if it was there."""
        key = root.vm, stream_id
        found = self._found.get(key)
        if found is not None:
            found.discard(item)
            if not found:
                del self._found[key]

    def of(self, root: RootContext, stream_id: int) -> list[T]:
        """What this stream asked for and is under way."""
        return list(self._found.get((root.vm, stream_id), ()))

    def clear(self) -> None:
        """Forget all."""
        self._found.clear()
