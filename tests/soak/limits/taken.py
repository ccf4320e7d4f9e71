"""What a process has after so many times over a limit, and whether that grows."""

from __future__ import annotations

import gc
import resource
import sys
from array import array
from pathlib import Path

from tests.soak.limits.case import Case, at_rest

# Of all times, those in which caches and allocators fill; and how often one looks, from there on.
WARM, LOOKS = 0.3, 20


class Taken:
    """What there was after so many ``times``: Python's ``blocks`` of any size, and bytes of ``rss``."""

    def __init__(self) -> None:
        # Made before anything is looked at, so that to write down what is seen takes no block more.
        self.times, self.blocks, self.rss = (array("q", bytes(8 * (LOOKS + 1))) for _ in range(3))

    def look(self, index: int, times: int) -> None:
        """Write down what there is now, of what can be reached."""
        gc.collect()
        self.times[index], self.blocks[index], self.rss[index] = times, blocks(), rss()

    def slope(self, kept: array[int]) -> float:
        """How much more there is after 1,000 times, by least squares."""
        middle = sum(self.times) / len(self.times)
        spread = sum((times - middle) ** 2 for times in self.times)
        return 1000 * sum((times - middle) * seen for times, seen in zip(self.times, kept, strict=True)) / spread


async def repeat(case: Case, times: int) -> Taken:
    """Go over it so often, and a little more."""
    taken, wanted = Taken(), times * case.share
    async with case.served() as app:
        for look in range(LOOKS + 1):
            enough = wanted * (WARM + (1 - WARM) * look / LOOKS)
            while case.seen.times < enough:
                await case.ask(app, case.seen)
            await at_rest(app)
            taken.look(look, case.seen.times)
    return taken


def blocks() -> int:
    """0 where the interpreter does not tell."""
    return getattr(sys, "getallocatedblocks", int)()


def rss() -> int:
    """0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() if statm.exists() else 0
