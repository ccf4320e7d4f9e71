"""A process of its own over a store: ``python -m tests.services.stores.worker URL count|listen …``."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from asgi_wasm.services.stores.lmdb import writer
from asgi_wasm.services.stores.store import Store, open_store
from asgi_wasm.settings.store_url import parse_store_url
from tests.driving import until
from tests.services.stores.listening import Listener
from tests.serving import ROOT
from tests.waiting import SECONDS


async def count(store: Store, times: int) -> None:
    """Add one to a key, so many times; print a line whenever it was done."""
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(times):
        while True:
            found = store.shared_data.get("vm", b"count")
            # A missing key takes any number, and 0 would overwrite what another process sets first.
            value, cas = found or (b"0", 0xFFFFFFFF)
            if store.shared_data.set("vm", b"count", b"%d" % (int(value) + 1), cas):
                break
        store.metrics.counter_add("p", "count", 1)
        print("counted", flush=True)


async def listen(store: Store, values: int) -> None:
    """Own the queue, and print each value that it is told of."""
    listener = Listener(store)
    token = store.queues.register("vm", b"q", listener.root)
    print("registered", flush=True)
    for number in range(1, values + 1):
        await until(lambda number=number: len(listener.heard) >= number)  # type: ignore[misc]
        print((store.queues.dequeue(token) or b"?").decode(), flush=True)


async def main(url: str, task: str, number: str) -> None:
    writer.PATIENCE_SECONDS = SECONDS
    store = open_store(parse_store_url(url))
    await store.start()
    await {"count": count, "listen": listen}[task](store, int(number))
    await store.stop()


@contextlib.contextmanager
def worker(url: str, *arguments: str, output: int | IO[bytes] = subprocess.PIPE) -> Iterator[subprocess.Popen[bytes]]:
    """Such a process, killed at the end if it still runs."""
    command = [sys.executable, "-m", "tests.services.stores.worker", url, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, cwd=Path(ROOT)) as process:
        try:
            yield process
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
