"""`python -m tests.chaos [--seconds SECONDS]`: run it all, and print a table. Ten minutes at most."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.chaos import callouts, files, report, state
from tests.redis_server import BINARY, MISSING

_MOST_SECONDS = 600.0


async def run(folder: Path, seconds: float) -> list[report.Row]:
    """Every scenario; those of stores take ``seconds`` each."""
    rows = await state.lmdb(folder, seconds)
    if BINARY is None:
        print(MISSING, file=sys.stderr)
    else:
        rows += await state.redis(folder, seconds)
    rows += await files.run(folder)
    return rows + await callouts.run(folder)


def main() -> None:
    """Exits with 1 when something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each scenario of a store")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(asyncio.wait_for(run(Path(folder), options.seconds), _MOST_SECONDS))
    print(report.markdown(rows))
    sys.exit(any(row.wrong for row in rows))


if __name__ == "__main__":
    main()
