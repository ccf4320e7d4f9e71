"""What a test with ``benchmark: true`` costs: its phases again and again, on streams of one plugin, unwatched."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asgi_wasm.testing.stage import Stage

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


def measure(stage: Stage, steps: Sequence[Step], hostcalls: int) -> Benchmark:
    """``steps`` are the phases of a stream; ``hostcalls`` were counted before, since watching costs time.

    Raises `VmFailedError`.
    """

    def some(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            stage.open()
            for step in steps:
                step(stage)
            stage.close_stream()
        return time.perf_counter() - began

    count = 1
    while some(count) < _ROUND_SECONDS:
        count *= 2
    return Benchmark(hostcalls, min(some(count) / count for _ in range(_ROUNDS)) * 1e6, stage.memory)
