"""A worker whose plugin calls upstreams that misbehave, one way after the other, then in all ways at once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.chaos.report import Row
from tests.chaos.upstream import WAYS
from tests.chaos.workers import Worker, workers
from tests.plugins.conftest import PLUGINS
from tests.serving import ROOT, free_port

_TIMEOUT_SECONDS = 1.0
_CALLS = 20
_SETTLE_SECONDS = 6.0


def _settings(folder: Path, ports: dict[str, int]) -> dict[str, Any]:
    file = str(PLUGINS / "http_auth/rust.wasm")
    milliseconds = int(_TIMEOUT_SECONDS * 1000)
    return {
        "plugins": [{"name": "auth", "file": file}],
        "routes": [
            {
                "uri": f"/{way}",
                "plugins": {
                    "auth": {"conf": json.dumps({"upstream": way, "path": f"/{way}", "timeout_ms": milliseconds})}
                },
            }
            for way in WAYS
        ],
        "upstreams": {way: f"http://127.0.0.1:{port}" for way, port in ports.items()},
        "cache_dir": str(folder / "compiled"),
    }


@contextmanager
def _upstreams() -> Iterator[dict[str, int]]:
    """A process for each, so that none keeps another from answering."""
    ports = {way: free_port() for way in WAYS}
    running = []
    try:
        for port in ports.values():
            command = [sys.executable, "-m", "tests.chaos.upstream", str(port)]
            running.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        yield ports
    finally:
        for process in running:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


async def run(folder: Path) -> list[Row]:
    """Both."""
    with _upstreams() as ports:
        async with workers(_settings(folder, ports), folder, 1) as (worker,):
            for way in WAYS:
                await worker.get(f"/{way}")
            single = await _measured(worker, "bad upstreams, one by one", [[way] for way in WAYS])
            together = await _measured(worker, "bad upstreams, all at once", [list(WAYS)])
    return [single, together]


async def _measured(worker: Worker, name: str, rounds: Sequence[Sequence[str]]) -> Row:
    await worker.get("/_reset")
    before = await worker.figures()
    slowest, good, calls = 0.0, [], 0
    for ways in rounds:
        times = await asyncio.gather(*(_timed(worker, way) for way in ways for _ in range(_CALLS)))
        calls += len(times)
        slowest = max(slowest, *(seconds for seconds, _, _ in times))
        good += [status for _, way, status in times if way == "good"]
    await asyncio.sleep(_SETTLE_SECONDS)
    after = await worker.figures()
    wrong = "a good upstream was not answered for" if set(good) != {b"200"} else ""
    return Row(
        name,
        f"{calls} calls of at most {_TIMEOUT_SECONDS:g} s, the slowest request {slowest:.2f} s",
        gap=after["gap"],
        memory=(before["memory"], after["memory"]),
        files=(before["files"], after["files"]),
        wrong=wrong or ("the worker died" if worker.has_died else ""),
    )


async def _timed(worker: Worker, way: str) -> tuple[float, str, bytes]:
    began = time.monotonic()
    answer = await worker.get(f"/{way}")
    status = b"" if answer.headers is None else answer.headers.get(b":status") or b""
    return time.monotonic() - began, way, status
