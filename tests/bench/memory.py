"""What a VM and a request under way keep, as the operating system counts it: each figure in a process of its own."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from asgi_wasm.asgi.types import ASGIApp, Message
from tests.bench.apps import VARIABLE, Setup, read_setup
from tests.bench.in_process import Request, nowhere, started
from tests.serving import ROOT

_VMS, _REQUESTS = 16, 2000
_HELD = Request("/held")


def measure(setup: Setup) -> dict[str, float]:
    """Bytes of each further VM of the setup's plugins (``vm``), of each request that waits in the app (``request``)."""
    return {kind: float(_in_a_process(kind, setup)) for kind in _KINDS}


def _in_a_process(kind: str, setup: Setup) -> str:
    command = [sys.executable, "-m", "tests.bench.memory", kind]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **setup.environment()}
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


def _resident_bytes() -> int:
    """Of this process, now. Linux tells; elsewhere the most that it ever had stands in."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def _vm(setup: Setup) -> float:
    async with started(setup):
        before = _resident_bytes()
        async with started(replace(setup, plugins=setup.plugins * _VMS)):
            return (_resident_bytes() - before) / _VMS


async def _request(setup: Setup) -> float:
    async with started(setup) as app:
        # Once with as many, so that what the allocators keep is there before.
        await _hold(app)
        before = _resident_bytes()
        return (await _hold(app) - before) / _REQUESTS


async def _hold(app: ASGIApp) -> int:
    """The process's bytes while many requests wait."""
    over = asyncio.Event()

    async def one() -> None:
        first = iter(_HELD.messages())

        async def receive() -> Message:
            if (message := next(first, None)) is not None:
                return message
            await over.wait()
            return {"type": "http.disconnect"}

        await app(_HELD.scope(), receive, nowhere)

    tasks = [asyncio.create_task(one()) for _ in range(_REQUESTS)]
    # Each gets as far as it can: to where the app waits.
    for _ in range(10):
        await asyncio.sleep(0)
    held = _resident_bytes()
    over.set()
    await asyncio.gather(*tasks)
    return held


_KINDS = {"vm": _vm, "request": _request}

if __name__ == "__main__":
    print(asyncio.run(_KINDS[sys.argv[1]](read_setup(os.environ[VARIABLE]))))
