"""`python -m tests.fuzz [--seconds N] [--seed N]`: rounds until the time is over; ends with 1 at the first fault."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from asgi_wasm.engines.wasmtime import WasmtimeEngine
from tests.engines.hostile import mutated
from tests.engines.test_hostile import is_refused_or_ends, still_works
from tests.fuzz.clients import round_of
from tests.host.resident.hostile import play
from tests.serving import ROOT

_HOSTCALLS = ("tests/host/test_fuzz.py", "tests/host/resident/test_same.py")


def modules(seed: int) -> str:
    """Changed modules, over the raw and the public API."""
    count = 0
    for engine in (WasmtimeEngine(), WasmtimeEngine(raw=False)):
        for code in mutated(500, seed):
            is_refused_or_ends(engine, code)
            count += 1
        still_works(engine)
    return f"{count} modules"


def hostcalls(seed: int) -> str:
    """Guests that call at random (hypothesis), in a process of its own."""
    # What keeps a test from hanging is for a machine that does nothing else.
    options = ("-q", "-p", "no:cacheprovider", "--timeout=1200", f"--hypothesis-seed={seed}")
    command = [sys.executable, "-m", "pytest", *options, *_HOSTCALLS]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout.strip().rpartition("\n")[2]


def kernel(seed: int) -> str:
    """A plugin that calls what the kernel answers at random, with hostile arguments and a hostile allocator."""
    stage = play(seed, 1_000_000)
    return f"a million hostcalls, {stage.slow} of them passed on by the kernel"


def clients(seed: int) -> str:
    """Clients that are slow, half-closed, gone, or smuggle, and plugins that split heads."""
    with tempfile.TemporaryDirectory() as folder:
        round_of(Path(folder), seed, 150)
    return "150 clients"


KINDS: tuple[Callable[[int], str], ...] = (modules, kernel, clients, hostcalls)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of the first round")
    given = parser.parse_args()
    end, seed = time.monotonic() + given.seconds, given.seed
    while time.monotonic() < end:
        for kind in KINDS:
            if time.monotonic() >= end:
                break
            try:
                print(f"seed {seed}: {kind(seed)}", flush=True)
            except Exception:
                traceback.print_exc()
                print(f"fuzz: {kind.__name__} failed; again by: python -m tests.fuzz --seed {seed}")
                return 1
        seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
