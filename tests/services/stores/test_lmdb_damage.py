"""What other workers, the disk and other releases do to an LMDB store."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from asgi_wasm.errors import SettingsError
from asgi_wasm.host.ports import PortError
from asgi_wasm.services.stores.lmdb import fifo
from asgi_wasm.settings.store_url import parse_store_url
from tests.driving import until
from tests.extras import LMDB_MISSING
from tests.services.stores.conftest import Place
from tests.services.stores.listening import Listener
from tests.serving import ROOT, open_files

if TYPE_CHECKING:
    from asgi_wasm.services.stores.lmdb.store import LmdbStore

pytestmark = pytest.mark.skipif(bool(LMDB_MISSING), reason=LMDB_MISSING)


async def refusal(url: str) -> str:
    """The sentence with which a start is refused."""
    with pytest.raises(SettingsError) as raised:
        async with Place(url).stores(1):
            raise AssertionError("it started")
    return str(raised.value)


async def fill(path: Path) -> None:
    async with Place(f"lmdb://{path}").stores(1) as (store,):
        for index in range(20):
            assert store.shared_data.set("vm", b"%d" % index, b"x" * 10_000, 0)


@pytest.mark.parametrize("size", [8192, 20_000])
async def test_a_file_that_was_cut_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture, size: int) -> None:
    """The server starts, as without its Redis."""
    await fill(tmp_path)
    os.truncate(tmp_path / "data.mdb", size)

    async with Place(f"lmdb://{tmp_path}").stores(1) as (store,):
        for _ in range(3):
            with pytest.raises(PortError):
                store.shared_data.get("vm", b"1")
            with pytest.raises(PortError):
                store.shared_data.set("vm", b"1", b"v", 0)
    assert [f"data.mdb has {size} bytes of" in record.getMessage() for record in caplog.records] == [True]


async def test_a_file_without_even_its_head_is_refused_at_the_start(tmp_path: Path) -> None:
    await fill(tmp_path)
    os.truncate(tmp_path / "data.mdb", 4096)
    assert "cannot be opened (" in await refusal(f"lmdb://{tmp_path}")


@pytest.mark.parametrize("size", [0, 4096])
@pytest.mark.parametrize("name", ["data.mdb", "lock.mdb"])
async def test_a_file_that_is_cut_while_it_is_used(tmp_path: Path, name: str, size: int) -> None:
    """In a process of its own, which must not die of it, nor as it ends."""
    await fill(tmp_path)
    program = f"""
import asyncio, logging, os
from tests.services.stores.conftest import Place
from asgi_wasm.host.ports import PortError
logging.basicConfig(level="INFO")
async def main():
    async with Place("lmdb://{tmp_path}").stores(1) as (store,):
        assert store.shared_data.get("vm", b"1")
        # And used in the same moment.
        os.truncate("{tmp_path}/{name}", {size})
        for action in (lambda: store.shared_data.get("vm", b"1"), lambda: store.shared_data.set("vm", b"1", b"", 0)):
            try:
                action()
            except PortError as error:
                print(error)
asyncio.run(main())
"""
    command = [sys.executable, "-c", program]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "its files were cut while they were in use\n" * 2)
    assert done.stderr.count("ERROR") == 1 and "restore or remove the folder" in done.stderr


# On a disk of its own, which is small. Prints what a start, or writes without end, came to.
_ON_A_SMALL_DISK = """
import asyncio, logging, sys
logging.basicConfig(format="%(message)s", stream=sys.stdout)
from asgi_wasm.errors import SettingsError
from asgi_wasm.host.ports import PortError
from tests.services.stores.conftest import Place

async def main():
    async with Place(f"lmdb://{sys.argv[1]}/state").stores(1) as (store,):
        for number in range(1000):
            try:
                store.shared_data.set("vm", b"%d" % number, b"v" * 1000, 0)
            except PortError:
                break
        print("written", number, "read", len((store.shared_data.get("vm", b"0") or (b"",))[0]))

try:
    asyncio.run(main())
except SettingsError as error:
    print("refused", error)
"""
_MOUNTED = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && exec "$3" -c "$4" "$2"'


@pytest.mark.parametrize(("size", "begins"), [("16k", "refused"), ("200k", "written")])
def test_a_disk_that_is_full_is_called_that(tmp_path: Path, size: str, begins: str) -> None:
    """Where LMDB itself would end the process by SIGBUS: at the start, and while it is written to."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "mount", "-t", "tmpfs", "tmpfs", tmp_path]).returncode:
        pytest.skip("nothing may be mounted here (unshare -rm)")
    command = [unshare, "-rm", "sh", "-c", _MOUNTED, "sh", size, str(tmp_path), sys.executable, _ON_A_SMALL_DISK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "the disk is full" in done.stdout and begins in done.stdout
    if begins == "written":
        assert "read 1000" in done.stdout and "written 0 " not in done.stdout


async def test_what_a_worker_with_a_larger_map_wrote_is_read_by_all(tmp_path: Path) -> None:
    """In processes of their own, since one process opens a database once."""
    program = f"""
import asyncio, sys
from tests.services.stores.conftest import Place
async def main():
    async with Place("lmdb://{tmp_path}?map_size=10000000").stores(1) as (store,):
        for index in range(10):
            assert store.shared_data.set("vm", b"%d" % index, b"x" * 200_000, 0)
asyncio.run(main())
"""

    async with Place(f"lmdb://{tmp_path}?map_size=1000000").stores(1) as (store,):
        assert store.shared_data.set("vm", b"mine", b"v", 0)
        with pytest.raises(PortError):
            store.shared_data.set("vm", b"9", b"x" * 2_000_000, 0)
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60)  # noqa: ASYNC221
        assert store.shared_data.get("vm", b"mine") == (b"v", 1)
        assert store.shared_data.get("vm", b"9") == (b"x" * 200_000, 1)
        assert store.shared_data.set("vm", b"large", b"y" * 2_000_000, 0)


@pytest.mark.parametrize("size", [1, 131_071, 1 << 45, 1 << 80])
def test_map_size_out_of_range(size: int) -> None:
    with pytest.raises(ValueError, match=r"map_size must be from 131072 \(128 KiB\) to 17592186044416 \(16 TiB\)"):
        parse_store_url(f"lmdb:///path?map_size={size}")


async def test_the_smallest_map_holds_something(tmp_path: Path) -> None:
    async with Place(f"lmdb://{tmp_path}?map_size=131072").stores(1) as (store,):
        for _ in range(100):
            assert store.shared_data.set("vm", b"k", b"v" * 10_000, 0)


# Holds the writer's lock of the database in the folder that it is told of.


async def test_an_owner_that_was_too_busy_to_hear_of_all_is_told_again(tmp_path: Path) -> None:
    """What it reads is full: somebody may have had no room for more."""
    try:
        async with Place(f"lmdb://{tmp_path}").stores() as (store, other):
            owner = Listener(store)
            token = store.queues.register("vm", b"q", owner.root)
            logging.disable()
            for _ in range(16_384):
                fifo.ring(tmp_path / "wake", cast("LmdbStore", store).queues.worker, token)
            other.queues.enqueue(token, b"x")
            await until(lambda: len(owner.heard) >= 16_384)
            await asyncio.sleep(0.05)
            assert len(owner.heard) == 16_384
            cast("LmdbStore", store).queues.tend()
            await until(lambda: len(owner.heard) == 16_385)
    finally:
        logging.disable(logging.NOTSET)


async def test_records_of_another_release_are_refused_once(tmp_path: Path) -> None:
    import lmdb

    with lmdb.open(str(tmp_path / "old")) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"d" + bytes(32), b"a value without version")
    assert "has records of version 1, and this release of asgi-wasm writes version 2" in await refusal(
        f"lmdb://{tmp_path}/old"
    )
    await fill(tmp_path / "new")
    with lmdb.open(str(tmp_path / "new")) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"version", b"3")
    assert "has records of version 3" in await refusal(f"lmdb://{tmp_path}/new")


async def test_a_record_of_another_form_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Place(f"lmdb://{tmp_path}/state").stores(1) as (store,):
        from asgi_wasm.services.stores.lmdb.records import key_of
        from asgi_wasm.services.stores.lmdb.store import LmdbStore
        from asgi_wasm.services.stores.naming import scoped

        assert isinstance(store, LmdbStore)
        store._database().write(lambda transaction: transaction.put(key_of(b"d", scoped("vm", b"k")), b"x"))
        for _ in range(5):
            with pytest.raises(PortError):
                store.shared_data.get("vm", b"k")
    assert ["a record of another form" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="what a process has open is not told here")
async def test_nothing_stays_open_when_nobody_uses_it(tmp_path: Path) -> None:
    """A test suite may open it for each of thousands of event loops."""
    for _ in range(5):
        async with Place(f"lmdb://{tmp_path}/state").stores(1) as (store,):
            assert store.shared_data.set("vm", b"key", b"1", 0)
    assert open_files(tmp_path) == 0
