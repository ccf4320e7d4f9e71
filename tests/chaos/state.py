"""Workers over one store: counts and values of a queue while workers and store are treated badly."""

from __future__ import annotations

import asyncio
import random
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asgi_wasm.services.callouts.messages import CalloutError
from tests.chaos.report import Row
from tests.chaos.workers import Worker, workers
from tests.plugins.conftest import PLUGINS
from tests.redis_server import BINARY, MISSING, redis_server

_WORKERS = 4
_CLIENTS = 8
_PAUSE_SECONDS = 0.4
# What a lost worker had taken, or was told of, is its heirs' by then.
_SETTLE_SECONDS = 25.0
# Of the plugin itself: the host repeats its last words when it fails.
_DEQUEUED = re.compile(r"asgi_wasm\.plugin\.queue queue: dequeued /queue/(\S+)")

Treatment = Callable[[Sequence[Worker]], Awaitable[None]]


@dataclass
class Tally:
    """What clients were told."""

    counts: set[int] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    # Requests without an answer: they may have been counted or not.
    unanswered: int = 0
    refused: int = 0


def settings(folder: Path, url: str) -> dict[str, Any]:
    """A counter and a queue, each on its own path."""
    return {
        "plugins": [
            {"name": "counter", "file": str(PLUGINS / "counter/assemblyscript.wasm"), "root_id": "counter"},
            {"name": "queue", "file": str(PLUGINS / "queue/rust.wasm")},
        ],
        "routes": [
            {"uri": "/count", "plugins": {"counter": {"conf": ""}}},
            {"uri": "/queue/*", "plugins": {"queue": {"conf": ""}}},
        ],
        "shared_data": url,
        "shared_metrics": True,
        "cache_dir": str(folder / "compiled"),
    }


async def lmdb(folder: Path, seconds: float) -> AsyncIterator[Row]:
    """Kills, then freezes."""
    for name, treatment in (("LMDB, kills", _killing), ("LMDB, freezes", _freezing)):
        place = folder / name.replace(", ", "-")
        place.mkdir()
        yield await _run(name, place, f"lmdb://{place}/state", seconds, treatment)


async def redis(folder: Path, seconds: float) -> AsyncIterator[Row]:
    """Kills, then a Redis that is frozen, whose connections are cut, and that is full."""
    if BINARY is None:
        print(MISSING, file=sys.stderr)
        return
    for name in ("Redis, kills", "Redis, away and full"):
        place = folder / name.replace(", ", "-")
        place.mkdir()
        with redis_server() as server:
            treatment = _killing if name == "Redis, kills" else _bad_redis(server)
            row = await _run(name, place, server.url, seconds, treatment)
            # At most once is LMDB's promise alone.
            row.wrong = row.wrong or ("values were lost" if row.lost is not None and row.lost[1] else "")
            yield row


async def _killing(made: Sequence[Worker]) -> None:
    await random.choice(made).kill()


async def _freezing(made: Sequence[Worker]) -> None:
    await made[-1].freeze(1.0)


def _bad_redis(server: Any) -> Treatment:
    from redis import Redis

    async def treat(made: Sequence[Worker]) -> None:
        what = random.choice(("freeze", "cut", "fill"))
        if what == "freeze":
            server.freeze()
            await asyncio.sleep(1.0)
            server.thaw()
            return
        with Redis.from_url(server.url) as operator:
            if what == "cut":
                operator.client_kill_filter(_type=random.choice(("normal", "pubsub")), skipme=True)
            else:
                operator.config_set("maxmemory", 1)
                await asyncio.sleep(0.5)
                operator.config_set("maxmemory", 0)

    return treat


async def _run(name: str, folder: Path, url: str, seconds: float, treatment: Treatment) -> Row:
    tally = Tally()
    async with workers(settings(folder, url), folder, _WORKERS) as made:
        await made[0].get("/count")
        before = await _figures(made)
        async with _load(made, tally):
            end = asyncio.get_running_loop().time() + seconds
            times = 0
            while asyncio.get_running_loop().time() < end:
                await asyncio.sleep(_PAUSE_SECONDS)
                await treatment(made)
                times += 1
        dequeued = await _settled(made, tally)
        # One that was frozen tells of nothing but that.
        gap = max([(await worker.figures())["gap"] for worker in made if not worker.freezes])
        after = await _figures(made)
        final = await _final(made[0])
        died = [worker.log for worker in made if worker.has_died]
    # A number that a refused write made is told twice: what counts is which numbers there were.
    lost = max(0, max(tally.counts, default=0) - final), len(tally.values - dequeued.keys())
    doubled = (
        max(0, final - len(tally.counts) - tally.unanswered - 1),
        sum(times - 1 for value, times in dequeued.items() if value in tally.values),
    )
    kills, freezes = sum(worker.kills for worker in made), sum(worker.freezes for worker in made)
    happened = f"{kills} kills" if kills else f"{freezes} freezes" if freezes else f"{times} outages"
    return Row(
        name,
        f"{happened}, {tally.refused:,} hostcalls refused",
        (len(tally.counts), len(tally.values)),
        lost,
        doubled,
        gap,
        (before["memory"], after["memory"]),
        (before["files"], after["files"]),
        f"workers died: {died}" if died else "counts were lost or doubled" if lost[0] or doubled[0] else "",
    )


async def _final(worker: Worker) -> int:
    """What is stored, which the plugin tells by adding one."""
    last = 0
    while True:
        told = int(_header((await worker.get("/count")).headers, b"x-count"))
        if told == last + 1 and last > 1:
            return told - 2
        last = told
        await asyncio.sleep(0.1)


def _header(headers: Any, name: bytes) -> bytes:
    found: bytes = headers.get(name) or b"0"
    return found


@asynccontextmanager
async def _load(made: Sequence[Worker], tally: Tally) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(_ask(number, made, tally)) for number in range(_CLIENTS)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        tally.unanswered += len(tasks)


async def _ask(client: int, made: Sequence[Worker], tally: Tally) -> None:
    number = 0
    while True:
        number += 1
        worker, value = random.choice(made), f"{client}-{number}"
        try:
            if client % 2:
                answer = await worker.get("/count")
                counted = int(_header(answer.headers, b"x-count"))
                tally.refused += counted in tally.counts or counted <= 1
                if counted > 1:
                    tally.counts.add(counted)
            else:
                before = _refusals(worker)
                answer = await worker.get(f"/queue/{value}")
                if _header(answer.headers, b":status") == b"200" and _refusals(worker) == before:
                    tally.values.add(value)
                else:
                    tally.refused += 1
        except (CalloutError, asyncio.TimeoutError):
            tally.unanswered += 1
            await asyncio.sleep(0.05)


def _refusals(worker: Worker) -> int:
    """How often its queue plugin, or its host, has said that something was refused."""
    return worker.log.read_bytes().count(b"not enqueued")


async def _settled(made: Sequence[Worker], tally: Tally) -> Counter[str]:
    """How often each value was taken out, when nothing more comes."""
    end = asyncio.get_running_loop().time() + _SETTLE_SECONDS
    while True:
        found = Counter(value for worker in made for value in _DEQUEUED.findall(worker.log.read_text(errors="replace")))
        if not tally.values - found.keys() or asyncio.get_running_loop().time() > end:
            return found
        await asyncio.sleep(0.5)


async def _figures(made: Sequence[Worker]) -> dict[str, float]:
    """Sums over workers, and the longest gap of any."""
    found = [await worker.figures() for worker in made]
    totals = {name: sum(one[name] for one in found) for name in ("memory", "files", "tasks")}
    return {**totals, "gap": max(one["gap"] for one in found)}
