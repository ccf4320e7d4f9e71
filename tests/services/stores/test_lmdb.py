"""What only LMDB does."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asgi_wasm.errors import SettingsError
from asgi_wasm.host.ports import PortError
from asgi_wasm.services.stores.lmdb import fifo
from asgi_wasm.services.stores.store import open_store
from asgi_wasm.settings.store_url import parse_store_url
from tests.driving import until
from tests.extras import LMDB_MISSING
from tests.services.stores.conftest import Place
from tests.services.stores.listening import Listener

if TYPE_CHECKING:
    pass
pytestmark = pytest.mark.skipif(bool(LMDB_MISSING), reason=LMDB_MISSING)


async def test_a_full_database_refuses_writes_and_answers_reads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Place(f"lmdb://{tmp_path}/state?map_size=262144").stores(1) as (store,):
        assert store.shared_data.set("vm", b"small", b"1", 0)
        for _ in range(3):
            with pytest.raises(PortError):
                store.shared_data.set("vm", b"large", b"x" * 1_000_000, 0)
        assert store.shared_data.get("vm", b"small") == (b"1", 1)
        assert store.shared_data.set("vm", b"small", b"2", 1)
    assert [record.levelname for record in caplog.records] == ["ERROR"], "it is said once"
    assert "MDB_MAP_FULL" in caplog.text


READER = """
import sys, lmdb
transaction = lmdb.open(sys.argv[1], create=False).begin()
print("reading", flush=True)
sys.stdin.read()
"""


def kill_a_reader(path: Path) -> None:
    command = [sys.executable, "-c", READER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"reading\n"
        process.kill()


async def test_a_reader_that_was_killed_holds_no_pages(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Place(f"lmdb://{tmp_path}/state?map_size=1048576").stores(1) as (store,):
        assert store.shared_data.set("vm", b"k", b"x" * 100_000, 0)
        kill_a_reader(tmp_path / "state")
        for _ in range(50):
            assert store.shared_data.set("vm", b"k", b"y" * 100_000, 0)
    assert caplog.records == []


async def test_an_outage_that_is_over_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_wasm.services.stores.lmdb.database._QUIET_SECONDS", 0.0)

    async with Place(f"lmdb://{tmp_path}/state?map_size=262144").stores(1) as (store,):
        with pytest.raises(PortError):
            store.shared_data.set("vm", b"large", b"x" * 1_000_000, 0)
        for _ in range(3):
            store.shared_data.set("vm", b"small", b"1", 0)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_cas_numbers_wrap_past_0(tmp_path: Path) -> None:
    async with Place(f"lmdb://{tmp_path}/state").stores(1) as (store,):
        from asgi_wasm.services.stores.lmdb.records import key_of
        from asgi_wasm.services.stores.lmdb.store import LmdbStore
        from asgi_wasm.services.stores.naming import scoped

        assert isinstance(store, LmdbStore)
        last = b"\xff\xff\xff\xff"
        store._database().write(lambda transaction: transaction.put(key_of(b"d", scoped("vm", b"k")), last + b"old"))
        assert store.shared_data.get("vm", b"k") == (b"old", 0xFFFFFFFF)
        assert store.shared_data.set("vm", b"k", b"new", 0xFFFFFFFF)
        assert store.shared_data.get("vm", b"k") == (b"new", 1)


def test_not_open(tmp_path: Path) -> None:
    store = open_store(parse_store_url(f"lmdb://{tmp_path}/state"))
    with pytest.raises(PortError):
        store.shared_data.get("vm", b"k")


async def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    async def start(url: str) -> None:
        await open_store(parse_store_url(url)).start()

    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"shared_data lmdb://.*/file cannot be opened"):
        await start(f"lmdb://{tmp_path}/file")
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "data.mdb").write_bytes(b"garbage" * 1000)
    with pytest.raises(SettingsError, match="mend or remove it"):
        await start(f"lmdb://{tmp_path}/garbage")
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "wake").write_text("")
    with pytest.raises(SettingsError, match="no FIFO can be made"):
        await start(f"lmdb://{tmp_path}/blocked")


async def test_files_are_the_users_alone(tmp_path: Path) -> None:
    async with Place(f"lmdb://{tmp_path}/deep/state").stores(1):
        for path in (tmp_path / "deep" / "state").rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, path


async def test_fifos_of_the_killed_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "wake"
    async with Place(f"lmdb://{tmp_path}/state").stores(1) as (first,):
        os.mkfifo(folder / "0123")
        async with Place(f"lmdb://{tmp_path}/state").stores(1) as (second,):
            assert len(list(folder.iterdir())) == 2
            owner = Listener(first)
            token = first.queues.register("vm", b"q", owner.root)
            second.queues.enqueue(token, b"x")
            await until(lambda: owner.heard == [token])
    assert list(folder.iterdir()) == []


async def test_a_fifo_that_was_read_sleeps(tmp_path: Path) -> None:
    reads: list[int] = []

    class Watched(fifo.WakeFifo):
        def _read(self, file: int) -> None:
            reads.append(file)
            super()._read(file)

    listening = Watched(tmp_path, b"w", lambda token: None, lambda: None)
    listening.open()
    assert fifo.ring(tmp_path, b"w", 1)
    await asyncio.sleep(0.1)
    assert len(reads) == 1
    listening.close()


async def test_a_fifo_that_is_full_loses_wake_ups_and_nothing_else(tmp_path: Path) -> None:
    logging.disable()
    try:
        heard: list[int] = []
        missed: list[bool] = []
        listening = fifo.WakeFifo(tmp_path, b"w", heard.append, lambda: missed.append(True))
        listening.open()
        for token in range(1, 20_000):
            assert fifo.ring(tmp_path, b"w", token)
        await until(lambda: len(heard) >= 16_384)
        assert heard == list(range(1, len(heard) + 1))
        assert missed == [True]
        listening._read(listening._file or 0)
        listening.close()
        assert not fifo.ring(tmp_path, b"w", 1)
    finally:
        logging.disable(logging.NOTSET)
