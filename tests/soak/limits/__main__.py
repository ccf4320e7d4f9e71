"""`python -m tests.soak.limits [NAME…] [--times N] [--bytes N]`: a table; ends with 1 when memory is kept."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.soak.limits.case import Case
from tests.soak.limits.hostcalls import CASES as HOSTCALLS
from tests.soak.limits.modules import CASES as MODULES
from tests.soak.limits.requests import CASES as REQUESTS
from tests.soak.limits.taken import repeat

ALL: list[Case] = [*HOSTCALLS, *REQUESTS, *MODULES]


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.limits", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of limits, or what they begin with; none is all")
    parser.add_argument("--times", type=int, default=20_000, help="that each limit is gone over, at least")
    parser.add_argument("--bytes", type=float, default=16, help="that one time may keep at most: one object's")
    given = parser.parse_args()
    print("| over the limit | times | objects kept per 1,000 | bytes of RSS kept per 1,000 | RSS at the end, MiB |")
    print("| --- | ---: | ---: | ---: | ---: |")
    kept = 0
    for case in ALL:
        if given.names and not case.name.startswith(tuple(given.names)):
            continue
        taken = asyncio.run(repeat(case, given.times))
        objects, rss = taken.slope(taken.blocks), taken.slope(taken.rss)
        is_kept = objects > 1000 / 2 or rss > 1000 * given.bytes
        kept += is_kept
        row = f"| {case.name} | {taken.times[-1]:,} | {objects:.1f} | {rss:,.0f} | {taken.rss[-1] / 2**20:.1f} |"
        print(row + " KEPT" * is_kept, flush=True)
    return int(bool(kept))


if __name__ == "__main__":
    sys.exit(main())
