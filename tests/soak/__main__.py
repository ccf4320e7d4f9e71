"""`python -m tests.soak [--requests N] [--reload-every N] [--slope BYTES]`: prints samples, ends with 1 on a leak."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from tests.soak.run import Samples, soak


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--reload-every", type=int, default=100_000)
    parser.add_argument("--slope", type=float, default=1024, help="bytes that 1,000 requests may keep at most")
    given = parser.parse_args()
    if not Path("/proc/self/statm").exists():
        print("soak: only Linux tells the memory of a process")
        return 1
    samples = asyncio.run(soak(given.requests, given.reload_every))
    return report(samples, given.slope)


def report(samples: Samples, most: float) -> int:
    """Print what came of it; 1 when something was kept."""
    slope = samples.slope()
    print(f"{samples.points[-1].requests} requests: {slope:.0f} bytes kept per 1,000 (at most {most:.0f} are let be)")
    faults = samples.faults()
    if slope > most:
        faults.append("memory grows")
    for fault in faults:
        print(f"soak: {fault}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
