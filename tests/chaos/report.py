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


def conditions(seconds: float) -> str:
    """The day, and the machine as far as it matters. To be asked before a run, which is a load itself."""
    load = f", {os.getloadavg()[0]:.1f} processes waiting for them before" if hasattr(os, "getloadavg") else ""
    return f"Of {date.today().isoformat()}: {seconds:g} s for each row of a store's, {os.cpu_count()} processors{load}."


def markdown(rows: Sequence[Row], conditions: str) -> str:
    """A table below its ``conditions``, and what was wrong."""
    wrong = [f"WRONG, {row.name}: {row.wrong}" for row in rows if row.wrong]
    lines = [conditions, "", _line(_HEAD), _line(["---"] * len(_HEAD)), *map(line, rows)]
    return "\n".join([*lines, *([""] if wrong else []), *wrong])


def line(row: Row) -> str:
    """Of the table."""
    counts = [_pair(counts) for counts in (row.acknowledged, row.lost, row.doubled)]
    memory = " → ".join(f"{size / 1e6:.0f}" for size in row.memory) + " MB"
    files = " → ".join(f"{number:.0f}" for number in row.files)
    return _line([row.name, row.happened, *counts, f"{row.gap * 1000:.0f} ms", memory, files])


def _pair(counts: tuple[int, int] | None) -> str:
    return "" if counts is None else f"{counts[0]:,} / {counts[1]:,}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
