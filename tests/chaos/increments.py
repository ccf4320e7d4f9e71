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

import wasmtime

from tests.extras import LMDB_MISSING
from tests.redis_server import BINARY, MISSING, redis_server
from tests.serving import ROOT, serve

_WORKERS = 4
_CLIENTS = 16
# Between two kills, once the killed one has a follower that answers or may.
_PAUSE_SECONDS = 2.0
_REQUEST = b"GET /count HTTP/1.1\r\nhost: a\r\n\r\n"
_HEAD_END = b"\r\n\r\n"
# Acknowledges, in x-count as eight hexadecimal digits, nothing but what the store has taken: a hostcall that was
# refused, as by a Redis that is too slow, is no increment. (The repository's `counter` goes on all the same.)
_PLUGIN = """(module
 (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
 (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
 (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
 (memory (export "memory") 2)
 (data (i32.const 100) "countx-count")
 (global $n (mut i32) (i32.const 0))
 (func (export "proxy_abi_version_0_2_1"))
 (func (export "malloc") (param i32) (result i32) (i32.const 8192))
 (func $hex (param $v i32) (local $i i32) (local $d i32)
  (local.set $i (i32.const 7))
  (loop $l
   (local.set $d (i32.and (local.get $v) (i32.const 15)))
   (i32.store8 (i32.add (i32.const 200) (local.get $i)) (i32.add (local.get $d)
     (select (i32.const 87) (i32.const 48) (i32.gt_u (local.get $d) (i32.const 9)))))
   (local.set $v (i32.shr_u (local.get $v) (i32.const 4)))
   (local.set $i (i32.sub (local.get $i) (i32.const 1)))
   (br_if $l (i32.ge_s (local.get $i) (i32.const 0)))))
 (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
  (local $s i32) (local $cas i32) (local $v i32)
  (loop $again
   (local.set $s (call $get (i32.const 100) (i32.const 5) (i32.const 16) (i32.const 20) (i32.const 24)))
   (if (i32.eqz (local.get $s)) (then
      (local.set $cas (i32.load (i32.const 24)))
      (local.set $v (i32.load (i32.load (i32.const 16)))))
    (else (return (i32.const 0))))
   (i32.store (i32.const 64) (i32.add (local.get $v) (i32.const 1)))
   (local.set $s (call $set (i32.const 100) (i32.const 5) (i32.const 64) (i32.const 4) (local.get $cas)))
   (br_if $again (i32.eq (local.get $s) (i32.const 8))))
  (if (i32.eqz (local.get $s)) (then
   (call $hex (i32.add (local.get $v) (i32.const 1)))
   (drop (call $add (i32.const 2) (i32.const 105) (i32.const 7) (i32.const 200) (i32.const 8)))))
  (i32.const 0))
 (func (export "proxy_on_configure") (param i32 i32) (result i32)
  ;; Makes the key if nobody has: a number that is nobody's is taken for a missing key alone.
  (drop (call $set (i32.const 100) (i32.const 5) (i32.const 64) (i32.const 4) (i32.const 0xffffff)))
  (i32.const 1)))"""


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


def settings(folder: Path, url: str) -> dict[str, Any]:
    """The plugin alone."""
    (folder / "increment.wasm").write_bytes(bytes(wasmtime.wat2wasm(_PLUGIN)))
    return {
        "plugins": [{"name": "increment", "file": str(folder / "increment.wasm")}],
        "shared_data": url,
        "cache_dir": str(folder / "compiled"),
    }


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
    return int(found[0], 16) if lines[0].endswith(b"200 ok") and found else None


async def _ask_alone(port: int) -> int | None:
    with suppress(OSError, asyncio.IncompleteReadError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(_REQUEST)
            return _number(await asyncio.wait_for(reader.readuntil(_HEAD_END), 60))
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
