"""Shared data, queues and metrics for processes of several machines, in Redis or Valkey (extra ``redis``).

Keys, after the prefix (``vm_id``, plugin and kind are percent-encoded):

* ``data:VM_ID:KEY``: a hash of ``value`` and ``cas``
* ``queue:TOKEN``: a queue's ``VM_ID:NAME``; ``queue:TOKEN:values``: a list; ``queue:TOKEN:owners``: the workers that
  registered it, the last one first
* ``metric:KIND%20PLUGIN:NAME``: 64-bit numbers for BITFIELD, which wraps as Envoy's do
* channel ``wake:WORKER``: tokens of queues that something was put into

Each hostcall is one command or one script, hence atomic and one round trip. Semantics as in `services.memory`.
Keys are made inside of scripts, so this is for one server and its replicas, not for Redis Cluster.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from redis import Redis

from asgi_wasm.host import lifecycle
from asgi_wasm.host.abi import MetricType
from asgi_wasm.host.contexts import RootContext
from asgi_wasm.services.naming import LAST_TOKEN, first_token, scoped
from asgi_wasm.services.redis_link import RedisLink
from asgi_wasm.specs import StoreSpec

_U64 = 0xFFFF_FFFF_FFFF_FFFF
_SIGN = 1 << 63

# KEYS: the value. ARGV: value, cas. CAS numbers count from 1 to 2^32-1 for each key, and never are 0.
_SET = """
local present = redis.call('HGET', KEYS[1], 'cas')
if present and ARGV[2] ~= '0' and ARGV[2] ~= present then return 0 end
redis.call('HSET', KEYS[1], 'value', ARGV[1], 'cas', (tonumber(present or '0') % 4294967295) + 1)
return 1
"""
# ARGV: prefix of queues' keys, the queue's name, the token to look at first, the last token. Leaves `token` and `key`,
# and whether the queue was `found`.
_FIND = """
local token, key, found = tonumber(ARGV[3]), nil, false
while true do
  key = ARGV[1] .. string.format('%d', token)
  local name = redis.call('GET', key)
  found = name == ARGV[2]
  if found or not name then break end
  token = token % tonumber(ARGV[4]) + 1
end
"""
_RESOLVE = f"{_FIND} if found then return token end return false"
# ARGV[5]: the worker, ARGV[6]: "take" the queue over, or "keep" the place that it has among the owners.
_REGISTER = f"""{_FIND}
local owners, worker = key .. ':owners', ARGV[5]
redis.call('SET', key, ARGV[2])
if ARGV[6] == 'take' then
  redis.call('LREM', owners, 0, worker)
  redis.call('LPUSH', owners, worker)
else
  for _, owner in ipairs(redis.call('LRANGE', owners, 0, -1)) do
    if owner == worker then return token end
  end
  redis.call('RPUSH', owners, worker)
end
return token
"""
# KEYS: the queue. ARGV: value, token, prefix of channels. A worker that nobody reached is gone: the one before it owns.
_ENQUEUE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('RPUSH', KEYS[1] .. ':values', ARGV[1])
local owners = KEYS[1] .. ':owners'
for _, owner in ipairs(redis.call('LRANGE', owners, 0, -1)) do
  if redis.call('PUBLISH', ARGV[3] .. owner, ARGV[2]) > 0 then break end
  redis.call('LREM', owners, 0, owner)
end
return 1
"""
_DEQUEUE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('LPOP', KEYS[1] .. ':values')
"""


class RedisSharedData:
    """`host.ports.SharedData`."""

    def __init__(self, link: RedisLink, prefix: bytes) -> None:
        self._link = link
        self._prefix = prefix + b"data:"

    def get(self, vm_id: str, key: bytes) -> tuple[bytes, int] | None:
        """The value and its CAS number, or None."""
        value, cas = self._link.call("HMGET", self._prefix + scoped(vm_id, key), "value", "cas")
        return None if cas is None else (value, int(cas))

    def set(self, vm_id: str, key: bytes, value: bytes, cas: int) -> bool:
        """Store it, unless ``cas`` is neither 0 nor the key's present number. A missing key takes any number."""
        return bool(self._link.call("EVAL", _SET, 1, self._prefix + scoped(vm_id, key), value, cas))


class RedisQueues:
    """`host.ports.SharedQueues`. The owner is the last registrant, in whichever process, that is still connected."""

    def __init__(self, spec: StoreSpec) -> None:
        prefix = spec.prefix.encode()
        self._keys = prefix + b"queue:"
        self._channels = prefix + b"wake:"
        self._worker = os.urandom(16).hex()
        self._roots: dict[int, RootContext] = {}
        self._registered: dict[int, bytes] = {}
        channel = f"{spec.prefix}wake:{self._worker}"
        self.link = RedisLink(spec, channel, self._introduce, self._wake)

    def _introduce(self, client: Redis) -> None:
        """After a time without connection: be an owner again where Redis forgot it, behind those who were there."""
        for identity in list(self._registered.values()):
            command = self._script(_REGISTER, identity, self._worker, "keep")
            client.execute_command(*command)  # type: ignore[no-untyped-call]

    def _wake(self, data: bytes) -> None:
        token = int(data)
        # Not from the link's task: a failure in there is no failure of the link.
        asyncio.get_running_loop().call_soon(lifecycle.notify, self._roots[token], "proxy_on_queue_ready", token)

    def _script(self, script: str, identity: bytes, *more: str) -> tuple[str | bytes | int, ...]:
        return "EVAL", script, 0, self._keys, identity, first_token(identity), LAST_TOKEN, *more

    def register(self, vm_id: str, name: bytes, owner: RootContext) -> int:
        """The queue's token; keeps what is queued, changes the owner. It is not told of what is queued already."""
        identity = scoped(vm_id, name)
        token: int = self.link.call(*self._script(_REGISTER, identity, self._worker, "take"))
        self._roots[token] = owner
        self._registered[token] = identity
        return token

    def resolve(self, vm_id: str, name: bytes) -> int | None:
        """The token, or None."""
        token: int | None = self.link.call(*self._script(_RESOLVE, scoped(vm_id, name)))
        return token

    def enqueue(self, token: int, value: bytes) -> bool:
        """Append, and wake the owner. False for an unknown token."""
        return bool(self.link.call("EVAL", _ENQUEUE, 1, self._key(token), value, token, self._channels))

    def dequeue(self, token: int) -> bytes | None:
        """The oldest value, or None. Raises KeyError."""
        value: bytes | int | None = self.link.call("EVAL", _DEQUEUE, 1, self._key(token))
        if isinstance(value, int):
            raise KeyError(token)
        return value

    def _key(self, token: int) -> bytes:
        return self._keys + b"%d" % token


class RedisMetrics:
    """`host.ports.Metrics`, with the sums of all workers."""

    def __init__(self, link: RedisLink, prefix: bytes) -> None:
        self._link = link
        self._prefix = prefix + b"metric:"

    def counter_add(self, plugin: str, name: str, value: int) -> None:
        """Add to a counter."""
        self._bitfield("counter", plugin, name, "INCRBY", "i64", 0, _signed(value))

    def gauge_set(self, plugin: str, name: str, value: int) -> None:
        """Set a gauge."""
        self._bitfield("gauge", plugin, name, "SET", "i64", 0, _signed(value))

    def gauge_add(self, plugin: str, name: str, value: int) -> None:
        """Add to a gauge; ``value`` may be negative."""
        self._bitfield("gauge", plugin, name, "INCRBY", "i64", 0, _signed(value))

    def observe(self, plugin: str, name: str, value: int) -> None:
        """Add one observation to a histogram: its count and sum are kept."""
        both = ("INCRBY", "i64", "#0", 1, "INCRBY", "i64", "#1", _signed(value))
        self._bitfield("histogram", plugin, name, *both)

    def histogram(self, plugin: str, name: str) -> tuple[int, int]:
        """Count and sum of what was observed."""
        count, total = self._bitfield("histogram", plugin, name, "GET", "i64", "#0", "GET", "i64", "#1")
        return count & _U64, total & _U64

    def value(self, plugin: str, kind: MetricType, name: str) -> int:
        """The value of a counter or gauge."""
        (found,) = self._bitfield(kind.name.lower(), plugin, name, "GET", "i64", 0)
        return int(found) & _U64

    def _bitfield(self, kind: str, plugin: str, name: str, *operations: str | int) -> Any:
        key = self._prefix + scoped(f"{kind} {plugin}", name.encode("utf-8", "surrogatepass"))
        return self._link.call("BITFIELD", key, *operations)


class RedisStore:
    """`services.store.Store` of any number of machines."""

    def __init__(self, spec: StoreSpec) -> None:
        prefix = spec.prefix.encode()
        self.queues = RedisQueues(spec)
        self.shared_data = RedisSharedData(self.queues.link, prefix)
        self.metrics = RedisMetrics(self.queues.link, prefix)

    async def start(self) -> None:
        """Connect. When Redis does not answer, the log says so and hostcalls fail until it does."""
        await self.queues.link.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self.queues.link.stop()

    def abandon(self) -> None:
        """`stop` for a worker whose event loop is closed."""
        self.queues.link.abandon()


def _signed(value: int) -> int:
    """The same 64 bits as BITFIELD wants them."""
    return ((value + _SIGN) & _U64) - _SIGN
