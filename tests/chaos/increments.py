"""`python -m tests.chaos.increments [--count N]`: counts by compare-and-swap in four workers that are killed.

One server of four workers, one of which is killed (SIGKILL) again and again, over LMDB and over Redis. Each answer
acknowledges one increment and says what came of it: no number may come twice, and none may be gone afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.state import settings
from tests.extras import LMDB_MISSING
from tests.redis_server import BINARY, MISSING, redis_server
from tests.serving import ROOT, serve

_WORKERS = 4
_CLIENTS = 16
# Between two kills, once the killed one has a follower that answers or may.
_PAUSE_SECONDS = 2.0
_REQUEST = b"GET /count HTTP/1.1\r\nhost: a\r\n\r\n"
_HEAD_END = b"\r\n\r\n"


@dataclass
class Outcome:
    """What clients were told. ``unanswered`` may have been counted or not."""

    numbers: list[int] = field(default_factory=list)
    unanswered: int = 0
    refused: int = 0
    kills: int = 0
    final: int = 0
    seconds: float = 0.0

    @property
    def lost(self) -> int:
        """Increments that were acknowledged, and are not there: told twice, or above what there is."""
        return len(self.numbers) - len({number for number in self.numbers if number <= self.final})

    @property
    def doubled(self) -> int:
        """Increments that nobody can have asked for."""
        return max(0, self.final - len(self.numbers) - self.unanswered)

    def told(self, name: str) -> str:
        """As one line."""
        return (
            f"{name}: {len(self.numbers):,} acknowledged increments in {self.seconds:.0f} s by {_CLIENTS} clients,"
            f" {_WORKERS} workers, {self.kills} kills, {self.unanswered} requests without an answer,"
            f" {self.refused} refused: {self.lost} lost, {self.doubled} doubled"
        )


async def count(folder: Path, url: str, wanted: int) -> Outcome:
    """Ask until so many are acknowledged."""
    outcome, began = Outcome(), time.monotonic()
    environment = {"CHAOS_SETTINGS": json.dumps(settings(folder, url))}
    arguments = ("--workers", str(_WORKERS), "--log-level", "error", "--no-access-log")
    with serve("tests.chaos.app:app", *arguments, env=environment, cwd=ROOT) as server:
        while await _ask_alone(server.port) is None:  # noqa: ASYNC110  # nobody else tells
            await asyncio.sleep(0.1)
        # That one, and those before it, are counted; nobody is killed yet.
        start = await _ask_alone(server.port) or 0
        asking = [asyncio.ensure_future(_ask(server.port, outcome, wanted)) for _ in range(_CLIENTS)]
        killing = asyncio.ensure_future(_kill(server.process.pid, outcome))
        await asyncio.gather(*asking)
        killing.cancel()
        await asyncio.wait([killing])
        outcome.seconds = time.monotonic() - began
        while (last := await _ask_alone(server.port)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    # Without those of this function itself.
    outcome.numbers = [number - start for number in outcome.numbers]
    outcome.final = last - 1 - start
    return outcome


async def _ask(port: int, outcome: Outcome, wanted: int) -> None:
    while len(outcome.numbers) < wanted:
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await _ask_on(reader, writer, outcome, wanted)
            finally:
                writer.close()
        await asyncio.sleep(0.01)


async def _ask_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, outcome: Outcome, wanted: int) -> None:
    while len(outcome.numbers) < wanted:
        outcome.unanswered += 1
        writer.write(_REQUEST)
        head = await reader.readuntil(_HEAD_END)
        outcome.unanswered -= 1
        number = _number(head)
        if number is None:
            outcome.refused += 1
        else:
            outcome.numbers.append(number)


def _number(head: bytes) -> int | None:
    """What an answer without a body says; None for one that counted nothing."""
    lines = head.lower().split(b"\r\n")
    found = [line.partition(b":")[2] for line in lines if line.startswith(b"x-count:")]
    return int(found[0]) if lines[0].endswith(b"200 ok") and found else None


async def _ask_alone(port: int) -> int | None:
    with suppress(OSError, asyncio.IncompleteReadError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(_REQUEST)
            return _number(await asyncio.wait_for(reader.readuntil(_HEAD_END), 30))
        finally:
            writer.close()
    return None


async def _kill(parent: int, outcome: Outcome) -> None:
    while True:
        await asyncio.sleep(_PAUSE_SECONDS)
        workers = _workers(parent)
        if len(workers) == _WORKERS:
            os.kill(random.choice(workers), signal.SIGKILL)
            outcome.kills += 1


def _workers(parent: int) -> list[int]:
    """The processes that uvicorn has begun, without multiprocessing's own."""
    found = []
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with suppress(OSError):
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"spawn_main" in command:
                found.append(int(child))
    return found


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.increments", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="increments to be acknowledged by each store")
    parser.add_argument("--store", choices=["LMDB", "Redis"], help="only this one")
    given = parser.parse_args()
    failed = False
    for name, missing in (("LMDB", LMDB_MISSING), ("Redis", "" if BINARY else MISSING)):
        if given.store not in (None, name):
            continue
        if missing:
            print(f"{name}: {missing}", file=sys.stderr)
            continue
        place: AbstractContextManager[Any] = redis_server() if name == "Redis" else nullcontext()
        with tempfile.TemporaryDirectory() as folder, place as server:
            url = server.url if name == "Redis" else f"lmdb://{folder}/state"
            outcome = asyncio.run(count(Path(folder), url, given.count))
        print(outcome.told(name), flush=True)
        failed = failed or bool(outcome.lost or outcome.doubled)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
