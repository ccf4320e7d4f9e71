"""The connections of one worker to Redis or Valkey, made and made again off the event loop.

Two of them: a blocking one for hostcalls, which must answer before they return, and a listening one for wake-ups. They
come and go together. While there is none, a hostcall is refused at once; it never connects, resolves a name or tries
again. So a hostcall holds the event loop for one answer's time limit at most, and only the first one after a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any

from redis import ConnectionPool, Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, ReadOnlyError, RedisError, ResponseError
from redis.retry import Retry

from asgi_wasm.host.ports import PortError
from asgi_wasm.services.stores.outage import Outage
from asgi_wasm.services.stores.redis.answers import bound_answers
from asgi_wasm.services.stores.redis.refusals import Refusals, require_single
from asgi_wasm.specs import StoreSpec

# Seconds, and more where the settings let a hostcall take more: such a network, or such a server, is slow. Nobody waits
# for a connection but startup; with TLS it takes several round trips.
_CONNECT_SECONDS = 2.0
_START_SECONDS = 5.0
# Between two attempts to connect: doubled up to the second one. The first again after a connection that held so long.
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
# Silence after which both are asked whether they are still there: Redis and firewalls drop connections that are idle,
# and no hostcall shall be the one to find out.
_SILENCE_SECONDS = 15.0
# After which what a worker that is gone leaves behind is taken over.
_TEND_SECONDS = 5.0
# After which a task that goes on is cancelled once more.
_END_SECONDS = 0.1


class RedisConnections:
    """`call` for hostcalls; ``wake`` is called for each message on ``channel``, ``tend`` from time to time.

    The ``introductions`` are called with each new connection, on another thread, before hostcalls have it.
    """

    def __init__(
        self, spec: StoreSpec, channel: str, wake: Callable[[bytes], None], tend: Callable[[], Awaitable[None]]
    ) -> None:
        self.introductions: list[Callable[[Redis], None]] = []
        # How many there have been.
        self.made = 0
        self._spec = spec
        self._channel = channel
        self._wake = wake
        self._tend = tend
        self.outage = Outage(spec.label)
        self._refusals = Refusals(spec.label)
        self._client: Redis | None = None
        # It works, and another one is sought: it is kept until there is one.
        self._is_to_be_replaced = False
        # For what need not be answered before a hostcall returns.
        self._patient: AsyncRedis | None = None
        self._task: asyncio.Task[None] | None = None
        # Set when the first attempt to connect has ended, in one way or the other.
        self._tried = asyncio.Event()
        self._lost = asyncio.Event()

    def call(self, *command: bytes | str | int) -> Any:
        """The answer to a command, within the time limit. Raises `PortError`, also for an answer that is an error."""
        client = self._client
        if client is None:
            raise PortError(f"{self._spec.label} is not connected")
        try:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]
        except ResponseError as error:
            self.refused(error)
            raise PortError(str(error)) from error
        except (RedisError, OSError) as error:
            self.lost(error)
            raise PortError(str(error)) from error

    async def command(self, *command: bytes | str | int) -> Any:
        """`call` that does not hold the event loop. Raises what redis-py raises, and `PortError`."""
        client = self._patient
        if client is None or self._client is None:
            raise PortError(f"{self._spec.label} is not connected")
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]

    def refused(self, error: ResponseError) -> None:
        """A command was answered by an error: the connection is as good as before, and so are other commands."""
        self._refusals.tell(error)
        if isinstance(error, (ReadOnlyError, MasterDownError)):
            # There was a failover, or will be. The name may lead to the new primary; until then this one can be read.
            self._is_to_be_replaced = True
            self._lost.set()

    def lost(self, error: Exception) -> None:
        """The connection is gone, or cannot be relied on: connect again, and refuse hostcalls until then."""
        if isinstance(error, ResponseError):
            self.refused(error)
        elif not isinstance(error, PortError):  # by which `command` says what is known already
            self._lose(error)

    async def start(self) -> None:
        """Connect; when that fails or takes too long, go on trying, and let hostcalls fail until then."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            await asyncio.wait_for(self._tried.wait(), _START_SECONDS)
        except asyncio.TimeoutError:
            self.outage.begin("it has not been connected yet")

    async def stop(self) -> None:
        """Disconnect. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            await _end([task])

    def abandon(self) -> None:
        """`stop` when the event loop, and with it the task, is gone."""
        self._task = None
        self._close()

    # --- the task

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        try:
            while True:
                began = loop.time()
                try:
                    await self._connected()
                except Exception as error:
                    if self._task is None:
                        # Stopped: what redis-py raised while it closed took the cancellation's place.
                        return
                    # Whatever it was, later it is tried again; hostcalls are refused until then, unless they are served
                    # by a connection that was to be replaced.
                    if self._client is None or not self._is_to_be_replaced:
                        self._lose(error)
                pause = _FIRST_PAUSE if loop.time() - began > _LONGEST_PAUSE else min(2 * pause, _LONGEST_PAUSE)
                await asyncio.sleep(pause)
        finally:
            self._close()

    async def _connected(self) -> None:
        """Connect twice, then deliver wake-ups until either connection is lost. Raises what redis-py raises."""
        seconds = self._connect_seconds()
        listener = AsyncRedis.from_url(
            self._spec.url,
            protocol=2,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            retry=AsyncRetry(NoBackoff(), 0),
        )
        async with _listening(listener) as subscription:
            await subscription.subscribe(self._channel)
            if await subscription.get_message(timeout=seconds) is None:
                raise RedisConnectionError("it does not answer")
            self._lost.clear()
            self.made += 1
            client = await asyncio.to_thread(self._connect)
            self._close()
            self._client, self._patient = client, listener
            # Refused by this one, too, while it was introduced.
            self._is_to_be_replaced = self._lost.is_set()
            self.outage.end()
            self._tried.set()
            try:
                await self._deliver(subscription)
            finally:
                # It is closed now, and would connect anew for the next command.
                self._patient = None

    def _connect_seconds(self) -> float:
        return max(_CONNECT_SECONDS, self._spec.timeout)

    def _connect(self) -> Redis:
        pool = ConnectionPool.from_url(
            self._spec.url,
            protocol=2,
            socket_timeout=self._spec.timeout,
            socket_connect_timeout=self._connect_seconds(),
            retry=Retry(NoBackoff(), 0),
        )
        bound_answers(pool, self._spec.timeout)
        client = Redis(connection_pool=pool, single_connection_client=True)
        client.auto_close_connection_pool = True
        try:
            client.ping()
            require_single(client)
            for introduce in self.introductions:
                introduce(client)
        except BaseException:
            client.close()
            raise
        return client

    async def _deliver(self, subscription: PubSub) -> None:
        works = [self._listen(subscription), self._tend_regularly(), self._lost.wait()]
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _end(tasks)

    async def _tend_regularly(self) -> None:
        while True:
            await asyncio.sleep(_TEND_SECONDS)
            try:
                await self._tend()
            except ResponseError as error:
                self.refused(error)

    async def _listen(self, subscription: PubSub) -> None:
        asked = False
        while True:
            message = await subscription.get_message(timeout=_SILENCE_SECONDS)
            if message is None:
                if asked:
                    raise RedisConnectionError("it does not answer a ping")
                await subscription.ping()
                with contextlib.suppress(PortError):
                    self.call("PING")
            elif message["type"] == "message":
                self._wake(message["data"])
            asked = message is None

    def _lose(self, error: Exception) -> None:
        self._close()
        self.outage.begin(error)
        self._tried.set()
        self._lost.set()

    def _close(self) -> None:
        client, self._client, self._patient, self._is_to_be_replaced = self._client, None, None, False
        if client is not None:
            with contextlib.suppress(RedisError, OSError):
                client.close()


@contextlib.asynccontextmanager
async def _listening(listener: AsyncRedis) -> AsyncIterator[PubSub]:
    """A subscription. It and its client are closed however often the task is cancelled meanwhile, as `_end` does."""
    subscription = listener.pubsub()

    async def close() -> None:
        try:
            await subscription.aclose()  # type: ignore[no-untyped-call]
        finally:
            await listener.aclose()

    try:
        yield subscription
    finally:
        closing = asyncio.ensure_future(close())
        # It takes no longer than redis-py waits for a connection.
        was_cancelled = False
        while not closing.done():
            try:
                await asyncio.wait([closing])
            except asyncio.CancelledError:
                was_cancelled = True
        closing.result()
        if was_cancelled:
            raise asyncio.CancelledError


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel them until all have ended.

    Once is not enough: redis-py awaits `asyncio.wait_for`, which before Python 3.12 returns a result that is there by
    then, and forgets that it was cancelled (https://github.com/python/cpython/issues/86296).
    """
    left: Collection[asyncio.Task[Any]] = tasks
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_END_SECONDS)
    # What they raised is known, or of no interest any more.
    await asyncio.gather(*tasks, return_exceptions=True)
