"""What a test with ``benchmark: true`` costs: its phases again and again, on streams of one plugin, unwatched."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from asgi_wasm.testing.suites.stage import Stage

# Each round lasts about so long, in seconds; the best of them counts, since everything else only adds.
_ROUNDS, _ROUND_SECONDS = 5, 0.02

Step = Callable[[Stage], object]


@dataclass(frozen=True)
class Benchmark:
    """Of one stream: hostcalls, which are the same each time, microseconds, and the bytes that the plugin's memory has
    after all of them."""

    hostcalls: int
    microseconds: float
    memory: int


@dataclass(frozen=True)
class Crowd:
    """How many other streams are open meanwhile, and how many of them go a step on between two measured ones."""

    streams: int = 0
    # As in Google's tester.
    rate: int = 3


NOBODY = Crowd()


def measure(stage: Stage, steps: Sequence[Step], hostcalls: int, crowd: Crowd = NOBODY) -> Benchmark:
    """``steps`` are the phases of a stream; ``hostcalls`` were counted before, since watching costs time.

    What the ``crowd`` does takes none of the time that is measured, but its memory counts. Raises `VmFailedError`.
    """
    others = [_endless(stage.beside(), steps) for _ in range(crowd.streams)]
    for other in others:
        # One is made, and then has a callback.
        next(other)
        next(other)
    # The same in every run.
    chance = random.Random(0)

    def some(count: int) -> float:
        spent = 0.0
        for _ in range(count):
            for _ in range(crowd.rate if others else 0):
                next(chance.choice(others))
            began = time.perf_counter()
            stage.open()
            for step in steps:
                step(stage)
            stage.close_stream()
            spent += time.perf_counter() - began
        return spent

    count = 1
    while some(count) < _ROUND_SECONDS:
        count *= 2
    return Benchmark(hostcalls, min(some(count) / count for _ in range(_ROUNDS)) * 1e6, stage.memory)


def _endless(stage: Stage, steps: Sequence[Step]) -> Iterator[object]:
    """One stream after another, a callback each time."""
    for step in cycle([Stage.open, *steps, Stage.close_stream]):
        yield step(stage)
