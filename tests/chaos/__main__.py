"""`python -m tests.chaos [--seconds SECONDS]`: run it all, and print a table. Ten minutes at most.

With `ASGI_WASM_WRITE_TABLES=1` in the environment the table is written into `asgi_wasm/services/README.md`, too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from tests.chaos import callouts, files, report, state
from tests.papers.blocks import STORES, WRITE, check_block

_MOST_SECONDS = 600.0


async def run(folder: Path, seconds: float, rows: list[report.Row]) -> None:
    """Every scenario; those of stores take ``seconds`` each. One that cannot be run is a row that is wrong."""
    for scenarios in (
        state.lmdb(folder, seconds),
        state.redis(folder, seconds),
        files.run(folder),
        callouts.run(folder),
    ):
        await _run(scenarios, rows)


async def _run(scenarios: AsyncIterator[report.Row], rows: list[report.Row]) -> None:
    try:
        async with aclosing(scenarios):  # type: ignore[type-var]  # they are generators
            async for row in scenarios:
                rows.append(row)
                print(report.line(row), row.wrong, file=sys.stderr, flush=True)
    except Exception as error:
        traceback.print_exc()
        name = getattr(scenarios, "__qualname__", "")
        rows.append(report.Row(name, "not run to its end", wrong=f"{type(error).__name__}: {error}"))


def main() -> None:
    """Exits with 1 when something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each scenario of a store")
    options = parser.parse_args()
    conditions, rows = report.conditions(options.seconds), list[report.Row]()
    with tempfile.TemporaryDirectory() as folder:
        try:
            asyncio.run(asyncio.wait_for(run(Path(folder), options.seconds, rows), _MOST_SECONDS))
        except asyncio.TimeoutError:
            rows.append(report.Row("the rest", "not run", wrong=f"it took more than {_MOST_SECONDS:g} s"))
    text = report.markdown(rows, conditions)
    print(text)
    if any(row.wrong for row in rows):
        sys.exit(1)
    if os.environ.get(WRITE):
        check_block(STORES, "chaos", text)


if __name__ == "__main__":
    main()
