"""Long work on the event loop, a slice at a time: whoever else waits for the loop waits for one slice only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

# Seconds. Long enough that giving way (a few microseconds) costs nothing, short beside what a request takes.
SLICE_SECONDS = 0.002


def run_in_slices(work: Iterator[None]) -> None:
    """Run ``work``, of which each step is short; what is left after a slice goes on in the loop's next turn."""
    loop = asyncio.get_running_loop()
    over = loop.time() + SLICE_SECONDS
    for _ in work:
        if loop.time() >= over:
            loop.call_soon(run_in_slices, work)
            return
