"""Shared data and queues in this process's memory; what has them beside its metrics.

The workers of one middleware share them, each in its event loop and so perhaps in its thread: what changes is locked.

Followed: proxy-wasm-cpp-host `src/shared_data.cc`, `src/shared_queue.cc`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

from asgi_wasm.host.ports import LimitReachedError, QueueOwner
from asgi_wasm.limits import DEFAULT_STORE_LIMITS, StoreLimits
from asgi_wasm.services.home import HomeLoop
from asgi_wasm.services.stores.memory_metrics import MemoryMetrics

_Post = Callable[[Callable[[], None]], object]
_U32 = 0xFFFF_FFFF


class MemorySharedData:
    """`host.ports.SharedData`. One CAS counter for all keys; it skips 0 when it wraps."""

    def __init__(self, limits: StoreLimits = DEFAULT_STORE_LIMITS) -> None:
        self.limits = limits
        self._lock = Lock()
        self._values: dict[tuple[str, bytes], tuple[bytes, int]] = {}
        self._last_cas = 0
        # By vm_id: how many keys, and the bytes of keys and values.
        self._keys: defaultdict[str, int] = defaultdict(int)
        self._bytes: defaultdict[str, int] = defaultdict(int)

    def get(self, vm_id: str, key: bytes) -> tuple[bytes, int] | None:
        """The value and its CAS number, or None."""
        return self._values.get((vm_id, key))

    def items(self, vm_id: str) -> dict[bytes, bytes]:
        """All keys and values of one vm_id."""
        with self._lock:
            return {key: value for (owner, key), (value, _) in self._values.items() if owner == vm_id}

    def set(self, vm_id: str, key: bytes, value: bytes, cas: int) -> bool:
        """Store it, unless ``cas`` is neither 0 nor the key's present number. A missing key takes any number."""
        with self._lock:
            present = self._values.get((vm_id, key))
            if cas and present is not None and present[1] != cas:
                return False
            self._account(vm_id, key, value, present)
            self._last_cas = (self._last_cas & _U32) + 1
            if self._last_cas > _U32:
                self._last_cas = 1
            self._values[vm_id, key] = (value, self._last_cas)
            return True

    def _account(self, vm_id: str, key: bytes, value: bytes, present: tuple[bytes, int] | None) -> None:
        """Count a value in. Raises `LimitReachedError`; a value no longer than the one it replaces is always taken."""
        limits = self.limits
        if present is None and self._keys[vm_id] >= limits.shared_data_keys:
            raise LimitReachedError("shared_data_keys", limits.shared_data_keys)
        grown = len(value) + (len(key) if present is None else -len(present[0]))
        if grown > 0 and self._bytes[vm_id] + grown > limits.shared_data_bytes:
            raise LimitReachedError("shared_data_bytes", limits.shared_data_bytes)
        self._keys[vm_id] += present is None
        self._bytes[vm_id] += grown


@dataclass
class _Queue:
    # The last registrant first, at most one of each worker.
    owners: list[tuple[MemoryQueues, QueueOwner]] = field(default_factory=list)
    values: deque[bytes] = field(default_factory=deque)
    size: int = 0

    def append(self, value: bytes, limits: StoreLimits) -> None:
        """Put a value at the end. Raises `LimitReachedError`."""
        if len(self.values) >= limits.queue_length:
            raise LimitReachedError("queue_length", limits.queue_length)
        if self.size + len(value) > limits.queue_bytes:
            raise LimitReachedError("queue_bytes", limits.queue_bytes)
        self.values.append(value)
        self.size += len(value)

    def popleft(self) -> bytes:
        value = self.values.popleft()
        self.size -= len(value)
        return value


class KeptQueues:
    """The queues themselves, whoever registered them."""

    def __init__(self, limits: StoreLimits = DEFAULT_STORE_LIMITS) -> None:
        self.limits = limits
        self.lock = Lock()
        self.tokens: dict[tuple[str, bytes], int] = {}
        self.queues: dict[int, _Queue] = {}
        # By vm_id.
        self._count: defaultdict[str, int] = defaultdict(int)

    def named(self, vm_id: str, name: bytes) -> int:
        """The queue's token; makes it if need be. To be called with the lock. Raises `LimitReachedError`."""
        token = self.tokens.get((vm_id, name))
        if token is None:
            if self._count[vm_id] >= self.limits.queues:
                raise LimitReachedError("queues", self.limits.queues)
            self._count[vm_id] += 1
            token = self.tokens[vm_id, name] = len(self.tokens) + 1
            self.queues[token] = _Queue()
        return token

    def waiting(self, vm_id: str) -> dict[bytes, list[bytes]]:
        """The values that wait in each queue of one vm_id, the oldest first."""
        with self.lock:
            return {
                name: list(self.queues[token].values) for (owner, name), token in self.tokens.items() if owner == vm_id
            }


class MemoryQueues:
    """`host.ports.SharedQueues` of one worker, over the queues of all.

    The owner is the last registrant that still runs. ``post`` runs a callable soon, in this worker's event loop and
    after the callback that is running there: `on_queue_ready` never re-enters a guest. It raises RuntimeError when
    the event loop is closed.
    """

    def __init__(self, post: _Post, limits: StoreLimits = DEFAULT_STORE_LIMITS, kept: KeptQueues | None = None) -> None:
        self._post = post
        self._kept = KeptQueues(limits) if kept is None else kept

    def register(self, vm_id: str, name: bytes, owner: QueueOwner) -> int:
        """The queue's token; keeps what is queued, changes the owner. It hears of what nobody was told of."""
        with self._kept.lock:
            token = self._kept.named(vm_id, name)
            queue = self._kept.queues[token]
            told = [*queue.owners[:1], *(other for other in queue.owners if other[0] is self)]
            is_told = not queue.values or (bool(told) and not any(root.is_gone for _, root in told))
            untold = 0 if is_told else len(queue.values)
            queue.owners = [(self, owner), *(other for other in queue.owners if other[0] is not self)]
        self._tell(token, untold)
        return token

    def resolve(self, vm_id: str, name: bytes) -> int | None:
        """The token, or None."""
        return self._kept.tokens.get((vm_id, name))

    def enqueue(self, token: int, value: bytes) -> bool:
        """Append, and tell the owner soon, once for each value."""
        queue = self._kept.queues.get(token)
        if queue is None:
            return False
        with self._kept.lock:
            queue.append(value, self._kept.limits)
        self._tell(token)
        return True

    def dequeue(self, token: int) -> bytes | None:
        """The oldest value, or None. Raises KeyError."""
        queue = self._kept.queues[token]
        with self._kept.lock:
            return queue.popleft() if queue.values else None

    def close(self) -> None:
        """Own nothing any more. Who owned a queue before is told of what is in it."""
        for token in list(self._kept.queues):
            self._resign(token)

    def _resign(self, token: int) -> None:
        queue = self._kept.queues[token]
        with self._kept.lock:
            left = [owner for owner in queue.owners if owner[0] is not self]
            untold = len(queue.values) if left and queue.owners[0][0] is self else 0
            queue.owners = left
        self._tell(token, untold)

    def _tell(self, token: int, times: int = 1) -> None:
        """Tell the owner, or, where its event loop was closed without a word, the one before."""
        queue = self._kept.queues[token]
        for queues, _ in tuple(queue.owners):
            try:
                for _ in range(times):
                    queues._post(partial(queues._wake, token))
            except RuntimeError:
                with self._kept.lock:
                    queue.owners = [owner for owner in queue.owners if owner[0] is not queues]
            else:
                return

    def _wake(self, token: int) -> None:
        """Tell the last registrant that something is there.

        Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_queue_ready
        Follows: proxy-wasm-cpp-host `SharedQueue::enqueue` (`src/shared_queue.cc`).
        """
        owners = self._kept.queues[token].owners
        if owners and owners[0][0] is not self:
            # It changed hands in the meantime.
            self._tell(token)
        elif owners:
            root = owners[0][1]
            root.queue_ready(token)
            if root.is_gone:
                # It is started again; until then, or for good, the one before it owns.
                self._resign(token)


class MemoryState:
    """What all workers of one middleware share."""

    def __init__(self) -> None:
        self.shared_data = MemorySharedData()
        self.queues = KeptQueues()
        self.metrics = MemoryMetrics()

    def limit(self, limits: StoreLimits) -> None:
        """Bound what is stored from now on."""
        self.shared_data.limits = self.queues.limits = self.metrics.limits = limits


class MemoryStore:
    """`services.stores.store.Store` of one worker. Each process has its own state."""

    def __init__(self, limits: StoreLimits = DEFAULT_STORE_LIMITS, state: MemoryState | None = None) -> None:
        """``state`` is what it shares with other workers."""
        state = MemoryState() if state is None else state
        state.limit(limits)
        self.shared_data = state.shared_data
        self.queues = MemoryQueues(self._soon, limits, state.queues)
        self.metrics = state.metrics

    @property
    def is_away(self) -> bool:
        """Never."""
        return False

    async def start(self) -> None:
        """Nothing to open. The event loop that runs is where queues wake their owners."""
        self._home = HomeLoop()

    async def stop(self) -> None:
        """Hear of no queue any more."""
        self.abandon()

    def abandon(self) -> None:
        """`stop` for a worker whose event loop is closed."""
        self.queues.close()

    def _soon(self, callback: Callable[[], None]) -> None:
        self._home.soon(callback)
