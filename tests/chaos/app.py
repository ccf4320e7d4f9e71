"""The app of every worker: it tells at `/_stat` how long its event loop was held, and what it has."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from pathlib import Path

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Receive, Scope, Send

logging.basicConfig(level="INFO", format="%(created).3f %(levelname)s %(name)s %(message)s")
_LOOK_SECONDS = 0.002


class Watch:
    """The longest time for which the event loop did nothing else."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From the first request on, since uvicorn's start holds the loop too."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last - _LOOK_SECONDS), now


WATCH = Watch()


def _memory() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    """An empty 200, or the figures."""
    if scope["type"] != "http":
        return
    WATCH.start()
    body = b""
    if scope["path"] == "/_stat":
        tasks, files = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
        body = json.dumps({"gap": WATCH.longest, "memory": _memory(), "files": files, "tasks": tasks}).encode()
    elif scope["path"] == "/_reset":
        WATCH.longest = 0.0
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


app = WasmMiddleware(inner, settings=json.loads(os.environ["CHAOS_SETTINGS"]))
