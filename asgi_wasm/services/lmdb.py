"""Shared data, queues and metrics for the processes of one machine, in an LMDB database (extra ``lmdb``).

What is in it: a letter, then a digest (LMDB's keys end at 511 bytes, a plugin's do not) or a queue's token:

* ``d`` digest: a value of shared data, after its CAS number
* ``m`` digest: a metric's numbers
* ``q`` token: a queue: digest of its name, numbers of the oldest and of the next value, and its owners, the last
  registrant first, 16 bytes each
* ``v`` token, number: one queued value

Nothing is written through to the disk at once: what a killed process wrote is kept by the kernel, and a machine that
loses its power loses the state. Semantics as in `services.memory`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import lmdb

from asgi_wasm.errors import SettingsError
from asgi_wasm.host import lifecycle
from asgi_wasm.host.abi import MetricType
from asgi_wasm.host.contexts import RootContext
from asgi_wasm.host.ports import PortError
from asgi_wasm.services.fifo import WakeFifo, ring
from asgi_wasm.services.lmdb_database import Database
from asgi_wasm.services.naming import first_token, next_token, scoped
from asgi_wasm.specs import StoreSpec

_WORKER_BYTES = 16
_DIGEST_BYTES = 32
_LAST_CAS = 0xFFFF_FFFF
_U64 = 0xFFFF_FFFF_FFFF_FFFF
_CAS = struct.Struct(">I")
_TOKEN = struct.Struct(">I")
_VALUE_KEY = struct.Struct(">cIQ")
_QUEUE = struct.Struct(f">{_DIGEST_BYTES}sQQ")
_NUMBER = struct.Struct(">Q")
_HISTOGRAM = struct.Struct(">QQ")


class LmdbSharedData:
    """`host.ports.SharedData`. Each key counts its own CAS numbers."""

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database

    def get(self, vm_id: str, key: bytes) -> tuple[bytes, int] | None:
        """The value and its CAS number, or None."""
        place = _key(b"d", scoped(vm_id, key))
        found = self._database().read(lambda transaction: _get(transaction, place))
        return None if found is None else (found[_CAS.size :], _CAS.unpack_from(found)[0])

    def set(self, vm_id: str, key: bytes, value: bytes, cas: int) -> bool:
        """Store it, unless ``cas`` is neither 0 nor the key's present number. A missing key takes any number."""
        place = _key(b"d", scoped(vm_id, key))

        def store(transaction: lmdb.Transaction) -> bool:
            found = _get(transaction, place)
            present: int = 0 if found is None else _CAS.unpack_from(found)[0]
            if cas and present and present != cas:
                return False
            transaction.put(place, _CAS.pack(present % _LAST_CAS + 1) + value)
            return True

        return self._database().write(store)


class LmdbQueues:
    """`host.ports.SharedQueues`. The owner is the last registrant, in whichever process, that still lives."""

    def __init__(self, database: Callable[[], Database], folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._worker = os.urandom(_WORKER_BYTES)
        self._roots: dict[int, RootContext] = {}
        self.fifo = WakeFifo(folder, self._worker, self._wake)

    def _wake(self, token: int) -> None:
        lifecycle.notify(self._roots[token], "proxy_on_queue_ready", token)

    def register(self, vm_id: str, name: bytes, owner: RootContext) -> int:
        """The queue's token; keeps what is queued, changes the owner. It is not told of what is queued already."""
        digest = _digest(scoped(vm_id, name))

        def own(transaction: lmdb.Transaction) -> int:
            token, record = _find(transaction, digest)
            head, owners = _split(record or _QUEUE.pack(digest, 0, 0))
            kept = [worker for worker in _workers(owners) if worker != self._worker]
            transaction.put(_queue_key(token), head + b"".join([self._worker, *kept]))
            return token

        token = self._database().write(own)
        self._roots[token] = owner
        return token

    def resolve(self, vm_id: str, name: bytes) -> int | None:
        """The token, or None."""
        digest = _digest(scoped(vm_id, name))
        token, record = self._database().read(lambda transaction: _find(transaction, digest))
        return None if record is None else token

    def enqueue(self, token: int, value: bytes) -> bool:
        """Append, and wake the owner. False for an unknown token."""

        def append(transaction: lmdb.Transaction) -> bytes | None:
            record = _get(transaction, _queue_key(token))
            if record is None:
                return None
            digest, oldest, following = _QUEUE.unpack_from(record)
            owners = record[_QUEUE.size :]
            transaction.put(_VALUE_KEY.pack(b"v", token, following), value)
            transaction.put(_queue_key(token), _QUEUE.pack(digest, oldest, following + 1) + owners)
            return owners

        owners = self._database().write(append)
        if owners is None:
            return False
        gone = []
        for worker in _workers(owners):
            if ring(self._folder, worker, token):
                break
            gone.append(worker)
        if gone:
            self._database().write(lambda transaction: _dismiss(transaction, token, gone))
        return True

    def dequeue(self, token: int) -> bytes | None:
        """The oldest value, or None. Raises KeyError."""

        def take(transaction: lmdb.Transaction) -> bytes | None:
            record = _get(transaction, _queue_key(token))
            if record is None:
                raise KeyError(token)
            digest, oldest, following = _QUEUE.unpack_from(record)
            if oldest == following:
                return None
            head = _QUEUE.pack(digest, oldest + 1, following)
            transaction.put(_queue_key(token), head + record[_QUEUE.size :])
            value_key = _VALUE_KEY.pack(b"v", token, oldest)
            value = _get(transaction, value_key)
            transaction.delete(value_key)
            return value

        return self._database().write(take)


class LmdbMetrics:
    """`host.ports.Metrics`, with the sums of all workers."""

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database

    def counter_add(self, plugin: str, name: str, value: int) -> None:
        """Add to a counter."""
        self._change(_metric_key("counter", plugin, name), lambda present: present + value)

    def gauge_set(self, plugin: str, name: str, value: int) -> None:
        """Set a gauge."""
        self._change(_metric_key("gauge", plugin, name), lambda _: value)

    def gauge_add(self, plugin: str, name: str, value: int) -> None:
        """Add to a gauge; ``value`` may be negative."""
        self._change(_metric_key("gauge", plugin, name), lambda present: present + value)

    def observe(self, plugin: str, name: str, value: int) -> None:
        """Add one observation to a histogram: its count and sum are kept."""
        key = _metric_key("histogram", plugin, name)

        def add(transaction: lmdb.Transaction) -> None:
            count, total = _HISTOGRAM.unpack(_get(transaction, key) or bytes(_HISTOGRAM.size))
            transaction.put(key, _HISTOGRAM.pack(count + 1, (total + value) & _U64))

        self._database().write(add)

    def histogram(self, plugin: str, name: str) -> tuple[int, int]:
        """Count and sum of what was observed."""
        key = _metric_key("histogram", plugin, name)
        found = self._database().read(lambda transaction: _get(transaction, key))
        count, total = _HISTOGRAM.unpack(found or bytes(_HISTOGRAM.size))
        return count, total

    def value(self, plugin: str, kind: MetricType, name: str) -> int:
        """The value of a counter or gauge."""
        key = _metric_key(kind.name.lower(), plugin, name)
        found = self._database().read(lambda transaction: _get(transaction, key))
        number: int = _NUMBER.unpack(found)[0] if found else 0
        return number

    def _change(self, key: bytes, change: Callable[[int], int]) -> None:
        def store(transaction: lmdb.Transaction) -> None:
            (present,) = _NUMBER.unpack(_get(transaction, key) or bytes(_NUMBER.size))
            transaction.put(key, _NUMBER.pack(change(present) & _U64))

        self._database().write(store)


class LmdbStore:
    """`services.store.Store` of the processes of one machine."""

    def __init__(self, spec: StoreSpec) -> None:
        self._spec = spec
        self._opened: Database | None = None
        self.shared_data = LmdbSharedData(self._database)
        self.queues = LmdbQueues(self._database, spec.path / "wake")
        self.metrics = LmdbMetrics(self._database)

    def _database(self) -> Database:
        if self._opened is None:
            raise PortError("the store is not open")
        return self._opened

    async def start(self) -> None:
        """Open the database and the FIFO. Raises `SettingsError`."""
        self._opened = Database.open(self._spec)
        try:
            self.queues.fifo.open()
        except OSError as error:
            raise SettingsError(f"shared_data {self._spec.label}: no FIFO can be made there ({error})") from None

    async def stop(self) -> None:
        """Close them; the database stays open while another middleware of this process uses it."""
        self.queues.fifo.close()
        self._opened = None

    def abandon(self) -> None:
        """`stop` for a worker whose event loop is closed."""
        self.queues.fifo.abandon()
        self._opened = None


def _digest(identity: bytes) -> bytes:
    return blake2b(identity, digest_size=_DIGEST_BYTES).digest()


def _key(letter: bytes, identity: bytes) -> bytes:
    return letter + _digest(identity)


def _metric_key(kind: str, plugin: str, name: str) -> bytes:
    return _key(b"m", scoped(f"{kind} {plugin}", name.encode("utf-8", "surrogatepass")))


def _queue_key(token: int) -> bytes:
    return b"q" + _TOKEN.pack(token)


def _get(transaction: lmdb.Transaction, key: bytes) -> bytes | None:
    found = transaction.get(key)
    return None if found is None else bytes(found)


def _find(transaction: lmdb.Transaction, digest: bytes) -> tuple[int, bytes | None]:
    """The token of the queue with this digest and its record, or the token that it may have and None."""
    token = first_token(digest)
    while (record := _get(transaction, _queue_key(token))) is not None and not record.startswith(digest):
        token = next_token(token)
    return token, record


def _split(record: bytes) -> tuple[bytes, bytes]:
    return record[: _QUEUE.size], record[_QUEUE.size :]


def _workers(owners: bytes) -> Iterator[bytes]:
    return (owners[place : place + _WORKER_BYTES] for place in range(0, len(owners), _WORKER_BYTES))


def _dismiss(transaction: lmdb.Transaction, token: int, gone: list[bytes]) -> None:
    """Forget owners that are no more."""
    head, owners = _split(_get(transaction, _queue_key(token)) or b"")
    kept = b"".join(worker for worker in _workers(owners) if worker not in gone)
    transaction.put(_queue_key(token), head + kept)
