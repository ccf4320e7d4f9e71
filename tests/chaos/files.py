"""An LMDB database that is full, and one that is cut while workers use it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from tests.chaos import state
from tests.chaos.report import Row
from tests.chaos.workers import workers

_REQUESTS = 1000


async def run(folder: Path) -> AsyncIterator[Row]:
    """Both."""
    for name in ("LMDB, full", "LMDB, cut while in use"):
        place = folder / name.replace(", ", "-").replace(" ", "-")
        place.mkdir()
        yield await _one(name, place)


async def _one(name: str, folder: Path) -> Row:
    url = f"lmdb://{folder}/state?map_size=131072"
    async with workers(state.settings(folder, url), folder, 2) as made:
        before = await state._figures(made)
        if name.startswith("LMDB, cut"):
            os.truncate(folder / "state/data.mdb", 8192)
        # Long paths are long values: three fill the database.
        statuses = set()
        for number in range(0, _REQUESTS, 50):
            asked = (made[index % 2].get(f"/queue/{'x' * 30_000}{number + index}") for index in range(50))
            statuses |= {answer.headers.get(b":status") for answer in await asyncio.gather(*asked) if answer.headers}
            await made[0].get("/count")
        after = await state._figures(made)
        died = any(worker.has_died for worker in made)
        said = sum(worker.log.read_text(errors="replace").count("ERROR asgi_wasm.host") for worker in made)
    return Row(
        name,
        f"{_REQUESTS:,} requests, {said} lines of errors",
        gap=after["gap"],
        memory=(before["memory"], after["memory"]),
        files=(before["files"], after["files"]),
        # 503 is the Rust SDK's, which gives up at a hostcall that is refused.
        wrong="a worker died" if died else "" if statuses <= {b"200", b"503"} else f"statuses: {statuses}",
    )
