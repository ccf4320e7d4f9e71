"""Server processes that may be killed, frozen and started again, and a client that is content with either."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from asgi_wasm.services.callouts.connector import Connector
from asgi_wasm.services.callouts.deadline import Deadline
from asgi_wasm.services.callouts.messages import Answer, CalloutError, Request
from asgi_wasm.services.callouts.pool import Pool
from asgi_wasm.services.callouts.turns import Turns
from tests.serving import ROOT, free_port, stop

_LIMIT = 1 << 26
_START_SECONDS = 60.0
_ANSWER_SECONDS = 30.0


class Worker:
    """One uvicorn. What it prints is in ``log``, over all its lives."""

    def __init__(self, settings: Mapping[str, Any], log: Path) -> None:
        self.log = log
        self.kills = self.freezes = 0
        self._settings = settings
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._pool = Pool(Connector("127.0.0.1", self._port, None), Turns())

    async def start(self) -> None:
        """Run it, until it answers."""
        command = [sys.executable, "-m", "uvicorn", "tests.chaos.app:app", "--port", str(self._port)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "CHAOS_SETTINGS": json.dumps(self._settings)}
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220  # it takes no time
                [*command, "--log-level", "warning", "--no-access-log"],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        with Deadline(_START_SECONDS):
            while True:
                try:
                    await self.get("/_stat")
                except CalloutError:
                    if self._process.poll() is not None:
                        raise RuntimeError(f"a worker did not start:\n{self.log.read_text()[-2000:]}") from None
                    await asyncio.sleep(0.05)
                else:
                    return

    async def get(self, path: str) -> Answer:
        """Raises `CalloutError`, also for a worker that is killed meanwhile, and `asyncio.TimeoutError`."""
        answer = Answer(_LIMIT)
        with Deadline(_ANSWER_SECONDS):
            await self._pool.exchange(Request(b"GET", path.encode(), [(b"host", b"chaos.test")], b""), answer)
        return answer

    async def figures(self) -> dict[str, float]:
        """Of `/_stat`."""
        found: dict[str, float] = json.loads((await self.get("/_stat")).body)
        return found

    async def kill(self) -> None:
        """End it at once, and start it again."""
        assert self._process is not None
        self.kills += 1
        self._process.kill()
        self._process.wait()
        await self.start()

    async def freeze(self, seconds: float) -> None:
        """Stop it for so long, in the middle of whatever it does."""
        assert self._process is not None
        self.freezes += 1
        self._process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    @property
    def has_died(self) -> bool:
        """Whether it ended by itself."""
        return self._process is None or self._process.poll() is not None

    async def stop(self) -> None:
        """End it for good."""
        await self._pool.close()
        if self._process is not None:
            await asyncio.to_thread(stop, self._process)


@asynccontextmanager
async def workers(settings: Mapping[str, Any], folder: Path, count: int) -> AsyncIterator[Sequence[Worker]]:
    """So many, started."""
    made = [Worker(settings, folder / f"worker-{number}.log") for number in range(count)]
    try:
        # The first one compiles for all.
        for worker in made:
            await worker.start()
        yield made
    finally:
        await asyncio.gather(*(worker.stop() for worker in made))
