"""Shared data, queues and metrics in this process's memory.

Followed: proxy-wasm-cpp-host `src/shared_data.cc`, `src/shared_queue.cc`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from asgi_wasm.host import lifecycle
from asgi_wasm.host.abi import MetricType
from asgi_wasm.host.contexts import RootContext
from asgi_wasm.host.ports import LimitReachedError
from asgi_wasm.specs import DEFAULT_STORE_LIMITS, StoreLimits

_Post = Callable[[Callable[[], None]], object]
_U32 = 0xFFFF_FFFF
_U64 = 0xFFFF_FFFF_FFFF_FFFF


class MemorySharedData:
    """`host.ports.SharedData`. One CAS counter for all keys; it skips 0 when it wraps."""

    def __init__(self, limits: StoreLimits = DEFAULT_STORE_LIMITS) -> None:
        self._limits = limits
        self._values: dict[tuple[str, bytes], tuple[bytes, int]] = {}
        self._last_cas = 0
        # By vm_id: how many keys, and the bytes of keys and values.
        self._keys: defaultdict[str, int] = defaultdict(int)
        self._bytes: defaultdict[str, int] = defaultdict(int)

    def get(self, vm_id: str, key: bytes) -> tuple[bytes, int] | None:
        """The value and its CAS number, or None."""
        return self._values.get((vm_id, key))

    def set(self, vm_id: str, key: bytes, value: bytes, cas: int) -> bool:
        """Store it, unless ``cas`` is neither 0 nor the key's present number. A missing key takes any number."""
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
        limits = self._limits
        if present is None and self._keys[vm_id] >= limits.shared_data_keys:
            raise LimitReachedError("shared_data_keys", limits.shared_data_keys)
        grown = len(value) + (len(key) if present is None else -len(present[0]))
        if grown > 0 and self._bytes[vm_id] + grown > limits.shared_data_bytes:
            raise LimitReachedError("shared_data_bytes", limits.shared_data_bytes)
        self._keys[vm_id] += present is None
        self._bytes[vm_id] += grown


@dataclass
class _Queue:
    owner: RootContext
    values: deque[bytes] = field(default_factory=deque)
    size: int = 0

    def append(self, value: bytes, limits: StoreLimits) -> None:
        """Raises `LimitReachedError`."""
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


class MemoryQueues:
    """`host.ports.SharedQueues`.

    ``post`` runs a callable soon, after the callback that is running: `on_queue_ready` never re-enters a guest.
    """

    def __init__(self, post: _Post, limits: StoreLimits = DEFAULT_STORE_LIMITS) -> None:
        self._post = post
        self._limits = limits
        # By vm_id.
        self._count: defaultdict[str, int] = defaultdict(int)
        self._tokens: dict[tuple[str, bytes], int] = {}
        self._queues: dict[int, _Queue] = {}

    def register(self, vm_id: str, name: bytes, owner: RootContext) -> int:
        """The queue's token; keeps what is queued, changes the owner."""
        if (vm_id, name) not in self._tokens:
            if self._count[vm_id] >= self._limits.queues:
                raise LimitReachedError("queues", self._limits.queues)
            self._count[vm_id] += 1
        token = self._tokens.setdefault((vm_id, name), len(self._tokens) + 1)
        queue = self._queues.get(token)
        if queue is None:
            self._queues[token] = _Queue(owner)
        else:
            queue.owner = owner
        return token

    def resolve(self, vm_id: str, name: bytes) -> int | None:
        """The token, or None."""
        return self._tokens.get((vm_id, name))

    def enqueue(self, token: int, value: bytes) -> bool:
        """Append, and tell the owner soon, once for each value."""
        queue = self._queues.get(token)
        if queue is None:
            return False
        queue.append(value, self._limits)
        self._post(lambda: lifecycle.notify(queue.owner, "proxy_on_queue_ready", token))
        return True

    def dequeue(self, token: int) -> bytes | None:
        """The oldest value, or None. Raises KeyError."""
        queue = self._queues[token]
        return queue.popleft() if queue.values else None


class MemoryMetrics:
    """`host.ports.Metrics`: counters and gauges wrap as Envoy's unsigned 64-bit stats do."""

    def __init__(self) -> None:
        self.counters: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.gauges: defaultdict[tuple[str, str], int] = defaultdict(int)
        # Count and sum; buckets are the exporter's affair.
        self.histograms: defaultdict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))

    def counter_add(self, plugin: str, name: str, value: int) -> None:
        """Add to a counter."""
        self.counters[plugin, name] = (self.counters[plugin, name] + value) & _U64

    def gauge_set(self, plugin: str, name: str, value: int) -> None:
        """Set a gauge."""
        self.gauges[plugin, name] = value

    def gauge_add(self, plugin: str, name: str, value: int) -> None:
        """Add to a gauge; ``value`` may be negative."""
        self.gauges[plugin, name] = (self.gauges[plugin, name] + value) & _U64

    def observe(self, plugin: str, name: str, value: int) -> None:
        """Add one observation to a histogram."""
        count, total = self.histograms[plugin, name]
        self.histograms[plugin, name] = (count + 1, (total + value) & _U64)

    def histogram(self, plugin: str, name: str) -> tuple[int, int]:
        """Count and sum of what was observed."""
        return self.histograms.get((plugin, name), (0, 0))

    def value(self, plugin: str, kind: MetricType, name: str) -> int:
        """The value of a counter or gauge."""
        kept = self.counters if kind is MetricType.COUNTER else self.gauges
        return kept.get((plugin, name), 0)


class MemoryStore:
    """`services.store.Store` of one process: each worker has its own."""

    def __init__(self, limits: StoreLimits = DEFAULT_STORE_LIMITS) -> None:
        self.shared_data = MemorySharedData(limits)
        self.queues = MemoryQueues(_soon, limits)
        self.metrics = MemoryMetrics()

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to free."""


def _soon(callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(callback)
