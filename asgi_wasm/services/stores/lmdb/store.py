"""Shared data, queues and metrics for the processes of one machine, in an LMDB database (extra ``lmdb``).

What is in it: a letter, then a digest (LMDB's keys end at 511 bytes, a plugin's do not) or a queue's token:

* ``d`` digest: a value of shared data, after its CAS number
* ``m`` digest: the numbers of a counter or histogram
* ``g`` digest: a gauge: each worker, 16 bytes, and the number that is its part
* ``q`` token: a queue: digest of its name, numbers of the oldest and of the next value, and its owners, the last
  registrant first, 16 bytes each
* ``v`` token, number: one queued value
* ``version``: which form all of these have

Nothing is written through to the disk at once: what a killed process wrote is kept by the kernel, and a machine that
loses its power loses the state. Semantics as in `services.stores.memory`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from struct import Struct

import lmdb

from asgi_wasm.errors import SettingsError
from asgi_wasm.host.abi import MetricType
from asgi_wasm.host.ports import PortError
from asgi_wasm.services.stores.lmdb.database import Database
from asgi_wasm.services.stores.lmdb.fifo import lives
from asgi_wasm.services.stores.lmdb.queues import LmdbQueues
from asgi_wasm.services.stores.lmdb.records import CAS, HISTOGRAM, NUMBER, PART, U64, get, key_of
from asgi_wasm.services.stores.naming import scoped
from asgi_wasm.specs import StoreSpec

# After which what a worker that is gone leaves behind is taken over.
_TEND_SECONDS = 5.0
_LAST_CAS = 0xFFFF_FFFF


class LmdbSharedData:
    """`host.ports.SharedData`. Each key counts its own CAS numbers."""

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database

    def get(self, vm_id: str, key: bytes) -> tuple[bytes, int] | None:
        """The value and its CAS number, or None."""
        place = key_of(b"d", scoped(vm_id, key))

        def read(transaction: lmdb.Transaction) -> tuple[bytes, int] | None:
            found = get(transaction, place)
            return None if found is None else (found[CAS.size :], CAS.unpack_from(found)[0])

        return self._database().read(read)

    def set(self, vm_id: str, key: bytes, value: bytes, cas: int) -> bool:
        """Store it, unless ``cas`` is neither 0 nor the key's present number. A missing key takes any number."""
        place = key_of(b"d", scoped(vm_id, key))

        def store(transaction: lmdb.Transaction) -> bool:
            found = get(transaction, place)
            present: int = 0 if found is None else CAS.unpack_from(found)[0]
            if cas and present and present != cas:
                return False
            transaction.put(place, CAS.pack(present % _LAST_CAS + 1) + value)
            return True

        return self._database().write(store)


class LmdbMetrics:
    """`host.ports.Metrics`: counters and histograms have the sums of all workers that ever were, gauges of the living.

    Each worker has its own part of a gauge, and sets that: what a killed one added is not there any more.
    """

    def __init__(self, database: Callable[[], Database], worker: bytes, folder: Path) -> None:
        self._database = database
        self._worker = worker
        self._folder = folder

    def counter_add(self, plugin: str, name: str, value: int) -> None:
        """Add to a counter."""
        key = _metric_key("counter", plugin, name)

        def add(transaction: lmdb.Transaction) -> None:
            (present,) = _numbers(NUMBER, transaction, key)
            transaction.put(key, NUMBER.pack((present + value) & U64))

        self._database().write(add)

    def gauge_set(self, plugin: str, name: str, value: int) -> None:
        """Set this worker's part of a gauge."""
        self._change(_gauge_key(plugin, name), lambda _: value)

    def gauge_add(self, plugin: str, name: str, value: int) -> None:
        """Add to this worker's part of a gauge; ``value`` may be negative."""
        self._change(_gauge_key(plugin, name), lambda present: present + value)

    def observe(self, plugin: str, name: str, value: int) -> None:
        """Add one observation to a histogram: its count and sum are kept."""
        key = _metric_key("histogram", plugin, name)

        def add(transaction: lmdb.Transaction) -> None:
            count, total = _numbers(HISTOGRAM, transaction, key)
            transaction.put(key, HISTOGRAM.pack(count + 1, (total + value) & U64))

        self._database().write(add)

    def histogram(self, plugin: str, name: str) -> tuple[int, int]:
        """Count and sum of what was observed."""
        key = _metric_key("histogram", plugin, name)
        count, total = self._database().read(lambda transaction: _numbers(HISTOGRAM, transaction, key))
        return count, total

    def known(self, plugin: str, kind: MetricType, name: str) -> int:
        """Its value: nobody else has to be asked."""
        return self.value(plugin, kind, name)

    def value(self, plugin: str, kind: MetricType, name: str) -> int:
        """The value of a counter or gauge."""
        if kind is MetricType.GAUGE:
            return self._gauge(plugin, name)
        key = _metric_key("counter", plugin, name)
        (number,) = self._database().read(lambda transaction: _numbers(NUMBER, transaction, key))
        return number

    def _gauge(self, plugin: str, name: str) -> int:
        key = _gauge_key(plugin, name)
        parts = self._database().read(lambda transaction: [*PART.iter_unpack(get(transaction, key) or b"")])
        total: int = sum(number for worker, number in parts if self._lives(worker))
        return total & U64

    def _lives(self, worker: bytes) -> bool:
        return worker == self._worker or lives(self._folder, worker)

    def _change(self, key: bytes, change: Callable[[int], int]) -> None:
        def store(transaction: lmdb.Transaction) -> None:
            parts = dict(PART.iter_unpack(get(transaction, key) or b""))
            if self._worker not in parts:
                # A new one comes seldom enough to look who is gone.
                parts = {worker: number for worker, number in parts.items() if self._lives(worker)}
            parts[self._worker] = change(parts.get(self._worker, 0)) & U64
            transaction.put(key, b"".join(PART.pack(*part) for part in parts.items()))

        self._database().write(store)


class LmdbStore:
    """`services.stores.store.Store` of the processes of one machine."""

    def __init__(self, spec: StoreSpec) -> None:
        self._spec = spec
        self._opened: Database | None = None
        self._tending: asyncio.TimerHandle | None = None
        self.shared_data = LmdbSharedData(self._database)
        self.queues = LmdbQueues(self._database, spec.path / "wake")
        self.metrics = LmdbMetrics(self._database, self.queues.worker, self.queues.folder)

    def _database(self) -> Database:
        if self._opened is None:
            raise PortError("the store is not open")
        return self._opened

    @property
    def is_away(self) -> bool:
        """Full, cut, or its lock is held."""
        return self._opened is not None and self._opened.outage.lasts

    async def start(self) -> None:
        """Open the database and the FIFO. Raises `SettingsError`."""
        self._opened = Database.open(self._spec)
        try:
            self.queues.fifo.open()
        except OSError as error:
            raise SettingsError(f"shared_data {self._spec.label}: no FIFO can be made there ({error})") from None
        self._tend_later()

    def _tend_later(self) -> None:
        self._tending = asyncio.get_running_loop().call_later(_TEND_SECONDS, self._tend)

    def _tend(self) -> None:
        # First, for whatever becomes of this time.
        self._tend_later()
        with contextlib.suppress(PortError):
            self.queues.tend()

    async def stop(self) -> None:
        """Close them; the database stays open while another middleware of this process uses it."""
        if self._tending is not None:
            self._tending.cancel()
        self.queues.fifo.close()
        self._opened = None

    def abandon(self) -> None:
        """`stop` for a worker whose event loop is closed."""
        self.queues.fifo.abandon()
        self._opened = None


def _numbers(form: Struct, transaction: lmdb.Transaction, key: bytes) -> tuple[int, ...]:
    return form.unpack(get(transaction, key) or bytes(form.size))


def _metric_key(kind: str, plugin: str, name: str) -> bytes:
    return key_of(b"m", scoped(f"{kind} {plugin}", name.encode("utf-8", "surrogatepass")))


def _gauge_key(plugin: str, name: str) -> bytes:
    return key_of(b"g", scoped(plugin, name.encode("utf-8", "surrogatepass")))
