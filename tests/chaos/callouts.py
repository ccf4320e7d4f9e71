"""A worker whose plugin calls upstreams that misbehave, one way after the other, then in all ways at once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos import grpc_upstream, upstream
from tests.chaos.report import Row
from tests.chaos.workers import Worker, workers
from tests.plugins.conftest import PLUGINS
from tests.serving import ROOT, free_port

_TIMEOUT_SECONDS = 1.0
_CALLS = 20
_SETTLE_SECONDS = 6.0


@dataclass(frozen=True)
class Kind:
    """Of upstreams: how they may behave, the module that does, and the plugin that calls it with a ``conf``."""

    name: str
    ways: Sequence[str]
    good: str
    module: str
    plugin: str
    conf: Callable[[str], dict[str, str]]


HTTP = Kind(
    "upstreams",
    list(upstream.WAYS),
    "good",
    "tests.chaos.upstream",
    "http_auth/rust",
    lambda way: {"upstream": way, "path": f"/{way}"},
)
GRPC = Kind(
    "gRPC servers",
    grpc_upstream.WAYS,
    grpc_upstream.GOOD,
    "tests.chaos.grpc_upstream",
    "grpc_auth/rust",
    lambda way: {"upstream": way, "method": way},
)


def _settings(folder: Path, kind: Kind, ports: dict[str, int]) -> dict[str, Any]:
    limit = {"timeout_ms": int(_TIMEOUT_SECONDS * 1000)}
    return {
        "plugins": [{"name": "auth", "file": str(PLUGINS / f"{kind.plugin}.wasm")}],
        "routes": [
            {"uri": f"/{way}", "plugins": {"auth": {"conf": json.dumps({**kind.conf(way), **limit})}}}
            for way in kind.ways
        ],
        "upstreams": {way: f"http://127.0.0.1:{port}" for way, port in ports.items()},
        "cache_dir": str(folder / "compiled"),
    }


@contextmanager
def _upstreams(kind: Kind) -> Iterator[dict[str, int]]:
    """A process for each, so that none keeps another from answering."""
    ports = {way: free_port() for way in kind.ways}
    running = []
    try:
        for port in ports.values():
            command = [sys.executable, "-m", kind.module, str(port)]
            running.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
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


async def run(folder: Path) -> AsyncIterator[Row]:
    """Both kinds, one by one and all at once."""
    for kind in (HTTP, GRPC):
        place = folder / kind.name.replace(" ", "-")
        place.mkdir()
        with _upstreams(kind) as ports:
            async with workers(_settings(place, kind, ports), place, 1) as (worker,):
                for way in kind.ways:
                    await worker.get(f"/{way}")
                single = [[way] for way in kind.ways]
                yield await _measured(worker, kind, "one by one", single)
                yield await _measured(worker, kind, "all at once", [kind.ways])


async def _measured(worker: Worker, kind: Kind, how: str, rounds: Sequence[Sequence[str]]) -> Row:
    await worker.get("/_reset")
    before = await worker.figures()
    slowest, good, calls = 0.0, [], 0
    for ways in rounds:
        times = await asyncio.gather(*(_timed(worker, way) for way in ways for _ in range(_CALLS)))
        calls += len(times)
        slowest = max(slowest, *(seconds for seconds, _, _ in times))
        good += [status for _, way, status in times if way == kind.good]
    await asyncio.sleep(_SETTLE_SECONDS)
    after = await worker.figures()
    answered = good.count(b"200")
    # All at once, processors that are busy keep good upstreams from answering in time, too: that is told, and no fault.
    wrong = "a good upstream was not answered for" if answered < len(good) and len(rounds) > 1 else ""
    return Row(
        f"bad {kind.name}, {how}",
        f"{calls} calls of at most {_TIMEOUT_SECONDS:g} s, the slowest request {slowest:.2f} s; of {len(good)} to good"
        f" ones, {answered} answered",
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
