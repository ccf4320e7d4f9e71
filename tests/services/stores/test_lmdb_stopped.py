"""A worker that stands still while it writes to an LMDB store, and has its lock."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from asgi_wasm.host.ports import PortError
from asgi_wasm.services.stores.lmdb import writer as lmdb_writer
from tests.driving import until
from tests.extras import LMDB_MISSING
from tests.services.stores.conftest import Place
from tests.services.stores.listening import Listener, all_heard

if TYPE_CHECKING:
    from asgi_wasm.services.stores.lmdb.store import LmdbStore

pytestmark = pytest.mark.skipif(bool(LMDB_MISSING), reason=LMDB_MISSING)


_STOPPED = """
import fcntl, sys
file = open(sys.argv[1] + "/writer.lock", "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("has it", flush=True)
sys.stdin.read()
"""


@contextmanager
def stopped_writer(folder: Path) -> Iterator[None]:
    """As by SIGSTOP in the middle of a transaction: it has the lock, and keeps it; others have no patience."""
    command = [sys.executable, "-c", _STOPPED, str(folder)]
    with (
        pytest.MonkeyPatch.context() as patch,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stopped,
    ):
        patch.setattr(lmdb_writer, "PATIENCE_SECONDS", 0.5)
        assert stopped.stdout is not None and stopped.stdout.readline() == b"has it\n"
        try:
            yield
        finally:
            stopped.kill()


async def test_a_writer_that_is_stopped_holds_nobody_for_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    class Time:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            time.sleep(seconds)

    monkeypatch.setattr(lmdb_writer, "time", Time)

    async with Place(f"lmdb://{tmp_path}").stores(1) as (store,):
        assert store.shared_data.set("vm", b"k", b"v", 0)
        with stopped_writer(tmp_path):
            waited = []
            for _ in range(100):
                with pytest.raises(PortError):
                    store.shared_data.set("vm", b"k", b"v", 0)
                assert store.shared_data.get("vm", b"k") == (b"v", 1)
                waited.append(len(pauses))
            # Only the first one does.
            assert waited == waited[:1] * 100
        assert store.shared_data.set("vm", b"k", b"w", 0)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "another worker has held the writer's lock for 0.5 s" in caplog.text


async def test_an_owner_to_whom_a_value_was_refused_is_told_again(tmp_path: Path) -> None:
    async with Place(f"lmdb://{tmp_path}").stores(1) as (store,):
        owner = Listener(store)
        token = store.queues.register("vm", b"q", owner.root)
        for value in (b"1", b"2"):
            store.queues.enqueue(token, value)
        await until(lambda: owner.heard == [token] * 2)
        with stopped_writer(tmp_path), pytest.raises(PortError):
            store.queues.dequeue(token)
        queues = cast("LmdbStore", store).queues
        queues.tend()
        await until(lambda: owner.heard == [token] * 4)
        # Once for each refusal.
        queues.tend()
        assert await all_heard(owner, store, store) == [token] * 4
