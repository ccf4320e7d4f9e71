"""Shared data, queues and metrics for processes of several machines, in Redis or Valkey (extra ``redis``).

Keys, after the prefix (``vm_id``, plugin and kind are percent-encoded):

* ``data:VM_ID:KEY``: a hash of ``value`` and ``cas``
* ``queue:TOKEN``: a queue's ``VM_ID:NAME``; ``queue:TOKEN:values``: a list; ``queue:TOKEN:owners``: the workers that
  registered it, the last one first; ``queue:TOKEN:takers``: who has taken values, in ``queue:TOKEN:taken:TAKER``
* ``metric:KIND%20PLUGIN:NAME``: 64-bit numbers for BITFIELD, which wraps as Envoy's do; for a
  gauge a set of workers, whose parts are in ``metric:part:WORKER:KIND%20PLUGIN:NAME``
* channel ``wake:WORKER``: tokens of queues that something was put into, each with for how many values

Each hostcall is one command or one script, hence atomic and one round trip. Semantics as in `services.stores.memory`.
Keys are made inside of scripts, so this is for one server and its replicas, not for Redis Cluster.
"""

from __future__ import annotations

import re
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from asgi_wasm.host.abi import MetricType
from asgi_wasm.host.ports import PortError
from asgi_wasm.services.stores.naming import scoped
from asgi_wasm.services.stores.redis import scripts
from asgi_wasm.services.stores.redis.connections import RedisConnections
from asgi_wasm.services.stores.redis.queues import RedisQueues
from asgi_wasm.services.stores.redis.refusals import NOT_OURS
from asgi_wasm.specs import StoreSpec

_CAS = re.compile(rb"[1-9]\d{0,9}")
_U32 = 0xFFFF_FFFF
_U64 = 0xFFFF_FFFF_FFFF_FFFF
_SIGN = 1 << 63


class RedisSharedData:
    """Shared data (`host.ports.SharedData`): for each key a hash of Redis, with the value and the CAS number."""

    def __init__(self, connections: RedisConnections, prefix: bytes) -> None:
        self._connections = connections
        self._prefix = prefix + b"data:"

    def get(self, vm_id: str, key: bytes) -> tuple[bytes, int] | None:
        """The value and its CAS number, or None."""
        value, cas = self._connections.call("HMGET", self._prefix + scoped(vm_id, key), "value", "cas")
        if cas is None:
            return None
        if value is None or not _CAS.fullmatch(cas) or int(cas) > _U32:
            self._connections.refused(NOT_OURS)
            raise PortError(str(NOT_OURS))
        return value, int(cas)

    def set(self, vm_id: str, key: bytes, value: bytes, cas: int) -> bool:
        """Store it, unless ``cas`` is neither 0 nor the key's present number. A missing key takes any number."""
        return bool(self._connections.call("EVAL", scripts.SET, 1, self._prefix + scoped(vm_id, key), value, cas))


class RedisMetrics:
    """`host.ports.Metrics`: counters and histograms have the sums of all workers that ever were, gauges of the living.

    Each worker has its own part of a gauge, and sets that: what a killed one added is not there any more.
    """

    def __init__(self, queues: RedisQueues, prefix: bytes) -> None:
        self._connections = queues.connections
        self._worker = queues.worker
        self._channels = queues.channels
        self._prefix = prefix + b"metric:"
        # This worker's parts of gauges, which others forget while it is without connection.
        self._parts: dict[tuple[str, str], int] = {}
        # Counters, as Redis had them when this worker last added to them.
        self._counted: dict[tuple[str, str], int] = {}
        queues.connections.introductions.append(self._introduce)

    def counter_add(self, plugin: str, name: str, value: int) -> None:
        """Add to a counter."""
        (counted,) = self._bitfield("counter", plugin, name, "INCRBY", "i64", 0, _signed(value))
        self._counted[plugin, name] = int(counted) & _U64

    def gauge_set(self, plugin: str, name: str, value: int) -> None:
        """Set this worker's part of a gauge."""
        self._change_gauge(plugin, name, "SET", value)

    def gauge_add(self, plugin: str, name: str, value: int) -> None:
        """Add to this worker's part of a gauge; ``value`` may be negative."""
        self._change_gauge(plugin, name, "INCRBY", value)

    def _change_gauge(self, plugin: str, name: str, operation: str, value: int) -> None:
        self._parts[plugin, name] = self._connections.call(*self._change(plugin, name, operation, value))

    def _change(self, plugin: str, name: str, operation: str, value: int) -> tuple[str | bytes | int, ...]:
        scope = _named("gauge", plugin, name)
        keys = self._prefix + scope, self._prefix + f"part:{self._worker}:".encode() + scope
        return "EVAL", scripts.CHANGE_GAUGE, 2, *keys, self._worker, operation, _signed(value)

    def _introduce(self, client: Redis) -> None:
        """On a thread, with a new connection. A server that is full has forgotten nothing."""
        try:
            for (plugin, name), part in list(self._parts.items()):
                client.execute_command(*self._change(plugin, name, "SET", part))  # type: ignore[no-untyped-call]
        except ResponseError as error:
            self._connections.refused(error)

    def observe(self, plugin: str, name: str, value: int) -> None:
        """Add one observation to a histogram: its count and sum are kept."""
        both = ("INCRBY", "i64", "#0", 1, "INCRBY", "i64", "#1", _signed(value))
        self._bitfield("histogram", plugin, name, *both)

    def histogram(self, plugin: str, name: str) -> tuple[int, int]:
        """Count and sum of what was observed."""
        count, total = self._bitfield("histogram", plugin, name, "GET", "i64", "#0", "GET", "i64", "#1")
        return count & _U64, total & _U64

    def known(self, plugin: str, kind: MetricType, name: str) -> int:
        """A counter as it was when this worker last added to it; this worker's part of a gauge."""
        found = self._counted if kind is MetricType.COUNTER else self._parts
        return found.get((plugin, name), 0) & _U64

    def value(self, plugin: str, kind: MetricType, name: str) -> int:
        """The value of a counter or gauge."""
        if kind is MetricType.GAUGE:
            scope, part = _named("gauge", plugin, name), self._prefix + b"part:"
            found = self._prefix + scope, self._worker, self._channels, part, scope
            parts = self._connections.call("EVAL", scripts.READ_GAUGE, 1, *found)
            return sum(int.from_bytes(part or b"", "big") for part in parts) & _U64
        (found,) = self._bitfield("counter", plugin, name, "GET", "i64", 0)
        return int(found) & _U64

    def _bitfield(self, kind: str, plugin: str, name: str, *operations: str | int) -> Any:
        return self._connections.call("BITFIELD", self._prefix + _named(kind, plugin, name), *operations)


class RedisStore:
    """`services.stores.store.Store` of any number of machines."""

    def __init__(self, spec: StoreSpec) -> None:
        prefix = spec.prefix.encode()
        self.queues = RedisQueues(spec)
        self.shared_data = RedisSharedData(self.queues.connections, prefix)
        self.metrics = RedisMetrics(self.queues, prefix)

    @property
    def is_away(self) -> bool:
        """Not connected."""
        return self.queues.connections.outage.lasts

    async def start(self) -> None:
        """Connect. When Redis does not answer, the log says so and hostcalls fail until it does."""
        await self.queues.connections.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self.queues.settle()
        await self.queues.connections.stop()

    def abandon(self) -> None:
        """`stop` for a worker whose event loop is closed."""
        self.queues.connections.abandon()


def _named(kind: str, plugin: str, name: str) -> bytes:
    return scoped(f"{kind} {plugin}", name.encode("utf-8", "surrogatepass"))


def _signed(value: int) -> int:
    """The same 64 bits as BITFIELD wants them."""
    return ((value + _SIGN) & _U64) - _SIGN
