"""Shared queues in an LMDB database, and wake-ups through FIFOs."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import lmdb

from asgi_wasm.host.ports import PortError, QueueOwner
from asgi_wasm.services.home import HomeLoop
from asgi_wasm.services.stores.lmdb.database import Database
from asgi_wasm.services.stores.lmdb.fifo import WakeFifo, lives, ring
from asgi_wasm.services.stores.lmdb.records import QUEUE, TOKEN, VALUE_KEY, WORKER_BYTES, digest_of, get
from asgi_wasm.services.stores.naming import first_token, next_token, scoped


class LmdbQueues:
    """`host.ports.SharedQueues`. The owner is the last registrant, in whichever process, that still lives."""

    def __init__(self, database: Callable[[], Database], folder: Path) -> None:
        self._database = database
        self.folder = folder
        self.worker = os.urandom(WORKER_BYTES)
        self._roots: dict[int, QueueOwner] = {}
        # Queues whose owner here may not know what is in them: a value was refused to it, or word of one may be lost.
        self._owing: set[int] = set()
        self.fifo = WakeFifo(folder, self.worker, self._wake, self._missed)
        self._home = HomeLoop()

    def _wake(self, token: int, times: int = 1) -> None:
        """Tell the plugin of so many values, one in an iteration of the event loop."""
        root = self._roots.get(token)
        if root is None:
            return
        root.queue_ready(token)
        if times > 1 and not root.is_gone:
            asyncio.get_running_loop().call_soon(self._wake, token, times - 1)

    def _missed(self) -> None:
        """Somebody may have had no room to tell of a value."""
        self._owing.update(self._roots)

    def register(self, vm_id: str, name: bytes, owner: QueueOwner) -> int:
        """The queue's token; keeps what is queued, changes the owner. It hears of what no living worker was told of."""
        digest = digest_of(scoped(vm_id, name))

        def own(transaction: lmdb.Transaction) -> tuple[int, int]:
            token, record = _find(transaction, digest)
            head, owners = _split(record or QUEUE.pack(digest, 0, 0))
            living = self._living(owners)
            kept = [worker for worker in living if worker != self.worker]
            transaction.put(_queue_key(token), head + b"".join([self.worker, *kept]))
            previous = self._roots.get(token)
            has_failed = previous is not None and previous.is_gone
            told = bool(living) and owners.startswith(living[0]) and not has_failed
            return token, 0 if told else _length(head)

        token, untold = self._database().write(own)
        self._roots[token] = owner
        self._owing.discard(token)
        if untold:
            self._home.soon(partial(self._wake, token, untold))
        return token

    def tend(self) -> None:
        """Inherit from owners that are gone: what they were told of, the next one hears of again. Tell what is owed."""
        for token, root in list(self._roots.items()):
            record = self._database().read(partial(get, key=_queue_key(token))) or b""
            head, owners = _split(record)
            first = next(_workers(owners), self.worker)
            if root.is_gone:
                # Until it is started again, or for good, the one before it owns.
                self._dismiss(token, resigns=True)
                del self._roots[token]
            elif first != self.worker and not lives(self.folder, first):
                self._dismiss(token)
            elif record and token in self._owing and first == self.worker and (untold := _length(head)):
                self._home.soon(partial(self._wake, token, untold))
            self._owing.discard(token)

    def resolve(self, vm_id: str, name: bytes) -> int | None:
        """The token, or None."""
        digest = digest_of(scoped(vm_id, name))
        token, record = self._database().read(lambda transaction: _find(transaction, digest))
        return None if record is None else token

    def enqueue(self, token: int, value: bytes) -> bool:
        """Append, and wake the owner. False for an unknown token."""

        def append(transaction: lmdb.Transaction) -> bytes | None:
            record = get(transaction, _queue_key(token))
            if record is None:
                return None
            digest, oldest, following = QUEUE.unpack_from(record)
            owners = record[QUEUE.size :]
            transaction.put(VALUE_KEY.pack(b"v", token, following), value)
            transaction.put(_queue_key(token), QUEUE.pack(digest, oldest, following + 1) + owners)
            return owners

        owners = self._database().write(append)
        if owners is None:
            return False
        first = next(_workers(owners), b"")
        if first and not ring(self.folder, first, token):
            # The value is there, whatever becomes of this: `tend` tells of it as well.
            with contextlib.suppress(PortError):
                self._dismiss(token)
        return True

    def _dismiss(self, token: int, resigns: bool = False) -> None:
        """Forget owners that are gone, and this worker if it ``resigns``.

        The next one, whoever that is, hears of all that those were told of.
        """

        def dismiss(transaction: lmdb.Transaction) -> tuple[bytes, int]:
            record = get(transaction, _queue_key(token))
            if record is None:
                return b"", 0
            head, owners = _split(record)
            living = [worker for worker in self._living(owners) if not (resigns and worker == self.worker)]
            transaction.put(_queue_key(token), head + b"".join(living))
            heir = living[0] if living else b""
            return heir, 0 if owners.startswith(heir) and not resigns else _length(head)

        heir, untold = self._database().write(dismiss)
        if untold and heir == self.worker:
            self._home.soon(partial(self._wake, token, untold))
        elif untold and heir:
            ring(self.folder, heir, token, untold)

    def _living(self, owners: bytes) -> list[bytes]:
        return [worker for worker in _workers(owners) if worker == self.worker or lives(self.folder, worker)]

    def dequeue(self, token: int) -> bytes | None:
        """The oldest value, or None. Raises KeyError."""

        def take(transaction: lmdb.Transaction) -> bytes | None:
            record = get(transaction, _queue_key(token))
            if record is None:
                raise KeyError(token)
            digest, oldest, following = QUEUE.unpack_from(record)
            if oldest == following:
                return None
            head = QUEUE.pack(digest, oldest + 1, following)
            transaction.put(_queue_key(token), head + record[QUEUE.size :])
            value_key = VALUE_KEY.pack(b"v", token, oldest)
            value = get(transaction, value_key)
            transaction.delete(value_key)
            return value

        try:
            return self._database().write(take)
        except PortError:
            # An owner who asks was told of something, and is not told of that by itself again.
            self._owing.update({token} & self._roots.keys())
            raise


def _queue_key(token: int) -> bytes:
    return b"q" + TOKEN.pack(token)


def _find(transaction: lmdb.Transaction, digest: bytes) -> tuple[int, bytes | None]:
    """The token of the queue with this digest and its record, or the token that it may have and None."""
    token = first_token(digest)
    while (record := get(transaction, _queue_key(token))) is not None and not record.startswith(digest):
        token = next_token(token)
    return token, record


def _split(record: bytes) -> tuple[bytes, bytes]:
    return record[: QUEUE.size], record[QUEUE.size :]


def _workers(owners: bytes) -> Iterator[bytes]:
    return (owners[place : place + WORKER_BYTES] for place in range(0, len(owners), WORKER_BYTES))


def _length(head: bytes) -> int:
    """How many values the queue with this record has."""
    _, oldest, following = QUEUE.unpack(head)
    return int(following - oldest)
