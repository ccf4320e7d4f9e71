"""Shared queues in Redis: values, who owns a queue, and who has taken a value and not yet said that it had it."""

from __future__ import annotations

import asyncio
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from redis import Redis
from redis.exceptions import ResponseError

from asgi_wasm.host.ports import PortError, QueueOwner
from asgi_wasm.services.home import HomeLoop
from asgi_wasm.services.stores.naming import LAST_TOKEN, first_token, scoped
from asgi_wasm.services.stores.redis import scripts
from asgi_wasm.services.stores.redis.connections import RedisConnections
from asgi_wasm.specs import StoreSpec
from asgi_wasm.waits import wait

# Seconds that a worker which stops waits until what it has taken is known to be taken.
_LAST_WORD_SECONDS = 1.0
# A token, and for how many values it is, where that is not one.
_MESSAGE = re.compile(rb"(\d{1,10})(?: (\d{1,10}))?")
# After which a worker without connection is taken for dead: twice what it takes it to try again.
_GONE_SECONDS = 10


class RedisQueues:
    """`host.ports.SharedQueues`. The owner is the last registrant, in whichever process, that is still connected.

    A value that was taken is kept aside, under the number of the call that took it, until the callback that took it is
    over: then the worker acknowledges it, off the event loop. Where the worker is killed before, or the answer to the
    call is lost with the connection, the value goes back to the queue's front.
    """

    def __init__(self, spec: StoreSpec) -> None:
        prefix = spec.prefix.encode()
        self._keys = prefix + b"queue:"
        self.channels = prefix + b"wake:"
        self.worker = os.urandom(16).hex()
        self._roots: dict[int, QueueOwner] = {}
        self._registered: dict[int, bytes] = {}
        # Queues whose owner here may not know what is in them: Redis has refused to say, or to give a value.
        self._owing: set[int] = set()
        # The calls whose values were received, by where those are kept; `_sequence` is the last call.
        self._received: defaultdict[bytes, set[int]] = defaultdict(set)
        self._sequence = 0
        self._acknowledging: asyncio.Task[None] | None = None
        self._home = HomeLoop()
        channel = f"{spec.prefix}wake:{self.worker}"
        self.connections = RedisConnections(spec, channel, self._wake, self._tend)
        self.connections.introductions.append(self._introduce)

    # --- being woken

    def _introduce(self, client: Redis) -> None:
        """With a new connection: be an owner again where Redis forgot it, behind those who were there. On a thread."""
        for taken, numbers in list(self._received.items()):
            client.execute_command("HDEL", taken, *numbers)  # type: ignore[no-untyped-call]
            del self._received[taken]
        for token in list(self._registered):
            self._owing.add(token)
            try:
                with self._settling(token) as command:
                    found = client.execute_command(*command)  # type: ignore[no-untyped-call]
            except ResponseError as error:
                # A full server: reads go on, and it is tried again later.
                self.connections.refused(error)
            else:
                self._home.soon(partial(self._tell, *found))

    async def _tend(self) -> None:
        """From time to time: inherit from workers that are gone, and tell what is owed. Raises what redis-py raises."""
        for token in list(self._registered):
            with self._settling(token) as command:
                self._tell(*await self.connections.command(*command))

    @contextmanager
    def _settling(self, token: int) -> Iterator[tuple[str | bytes | int, ...]]:
        """What asks Redis for how many values the owner here is to be told of. Where that fails, it is owed on."""
        root, owes = self._roots[token], token in self._owing
        resigns = root.is_gone
        self._owing.discard(token)
        try:
            yield self._register(self._registered[token], "resigns" if resigns else "returns" if owes else "tends")
        except BaseException:
            if owes:
                self._owing.add(token)
            raise
        if resigns:
            # Until it is started again, or for good, the one before it owns.
            self._home.soon(partial(self._forget, token, root))

    def _forget(self, token: int, root: QueueOwner) -> None:
        if self._roots.get(token) is root:
            del self._roots[token], self._registered[token]

    def _wake(self, data: bytes) -> None:
        # Not from the connections' own task: a failure in there is no failure of theirs.
        told = _MESSAGE.fullmatch(data)
        if told is not None:  # else somebody else's
            asyncio.get_running_loop().call_soon(self._tell, int(told[1]), int(told[2] or 1))

    def _tell(self, token: int, times: int) -> None:
        """Tell the plugin of so many values, one in an iteration of the event loop."""
        if times and token in self._roots:
            root = self._roots[token]
            root.queue_ready(token)
            if times > 1 and not root.is_gone:
                asyncio.get_running_loop().call_soon(self._tell, token, times - 1)

    # --- the port

    def register(self, vm_id: str, name: bytes, owner: QueueOwner) -> int:
        """The queue's token; keeps what is queued, changes the owner. It hears of what no living worker was told of."""
        identity = scoped(vm_id, name)
        previous = next((self._roots[token] for token, known in self._registered.items() if known == identity), None)
        mode = "replace" if previous is not None and previous.is_gone else "take"
        token, untold = self.connections.call(*self._register(identity, mode))
        self._roots[token] = owner
        self._registered[token] = identity
        self._owing.discard(token)
        if untold:
            self._home.soon(partial(self._tell, token, untold))
        return int(token)

    def resolve(self, vm_id: str, name: bytes) -> int | None:
        """The token, or None."""
        token: int | None = self.connections.call(*self._script(scripts.RESOLVE, scoped(vm_id, name)))
        return token

    def enqueue(self, token: int, value: bytes) -> bool:
        """Append, and wake the owner. False for an unknown token."""
        return bool(self.connections.call("EVAL", scripts.ENQUEUE, 1, self._key(token), value, token, self.channels))

    def dequeue(self, token: int) -> bytes | None:
        """The oldest value, or None. Raises KeyError."""
        self._sequence += 1
        key, taker = self._key(token), self._taker()
        try:
            value: bytes | int | None = self.connections.call("EVAL", scripts.DEQUEUE, 1, key, taker, self._sequence)
        except PortError:
            # An owner who asks was told of something, and is not told of that by itself again.
            self._owing.update({token} & self._registered.keys())
            raise
        if isinstance(value, int):
            raise KeyError(token)
        if value is not None:
            self._received[key + b":taken:" + taker].add(self._sequence)
            if self._acknowledging is None:
                # Only when the callback that asked is over: until then the value is not worked.
                self._acknowledging = asyncio.get_running_loop().create_task(self._acknowledge())
        return value

    async def _acknowledge(self) -> None:
        """Let Redis forget what was received. What fails here is done with the next connection."""
        try:
            while self._received:
                taken, numbers = next(iter(self._received.items()))
                sent = tuple(numbers)
                await self.connections.command("HDEL", taken, *sent)
                numbers.difference_update(sent)
                if not numbers:
                    self._received.pop(taken, None)
        except Exception as error:
            self.connections.lost(error)
        finally:
            self._acknowledging = None

    async def settle(self) -> None:
        """Acknowledge what is left, before the connection is given up."""
        task = self._acknowledging
        if task is not None:
            await wait([task], timeout=_LAST_WORD_SECONDS)

    # --- commands

    def _register(self, identity: bytes, mode: str) -> tuple[str | bytes | int, ...]:
        more = self.worker, self._taker(), self.channels, mode, _GONE_SECONDS
        return self._script(scripts.REGISTER, identity, *more)

    def _script(self, script: str, identity: bytes, *more: str | bytes | int) -> tuple[str | bytes | int, ...]:
        return "EVAL", script, 0, self._keys, identity, first_token(identity), LAST_TOKEN, *more

    def _key(self, token: int) -> bytes:
        return self._keys + b"%d" % token

    def _taker(self) -> bytes:
        """A name for each connection: a call of an earlier one may still arrive at a server that was frozen."""
        return f"{self.worker}.{self.connections.made}".encode()
