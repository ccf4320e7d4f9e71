"""What a run found, as a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date


@dataclass
class Row:
    """One scenario. Counts are of what was acknowledged to clients, None where there is nothing; seconds; bytes."""

    name: str
    happened: str
    # Of counts, of values of a queue.
    acknowledged: tuple[int, int] | None = None
    lost: tuple[int, int] | None = None
    doubled: tuple[int, int] | None = None
    gap: float = 0.0
    memory: tuple[float, float] = (0.0, 0.0)
    files: tuple[float, float] = (0.0, 0.0)
    # What must not be; empty for a run in which all was well.
    wrong: str = ""


_HEAD = (
    "",
    "what happened",
    "acknowledged: counts / values",
    "lost",
    "doubled",
    "longest gap of a loop",
    "memory",
    "descriptors",
)


def markdown(rows: Sequence[Row]) -> str:
    """With the day, and the machine as far as it matters."""
    lines = [f"{date.today().isoformat()}, {os.cpu_count()} processors.", "", _line(_HEAD), _line(["---"] * len(_HEAD))]
    for row in rows:
        counts = [_pair(counts) for counts in (row.acknowledged, row.lost, row.doubled)]
        memory = " → ".join(f"{size / 1e6:.0f}" for size in row.memory) + " MB"
        files = " → ".join(f"{number:.0f}" for number in row.files)
        lines.append(_line([row.name, row.happened, *counts, f"{row.gap * 1000:.0f} ms", memory, files]))
    wrong = [f"WRONG, {row.name}: {row.wrong}" for row in rows if row.wrong]
    return "\n".join([*lines, *([""] if wrong else []), *wrong])


def _pair(counts: tuple[int, int] | None) -> str:
    return "" if counts is None else f"{counts[0]:,} / {counts[1]:,}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
