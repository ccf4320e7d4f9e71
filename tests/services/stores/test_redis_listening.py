"""The connection on which a store hears of queues: cut, silent, dead, idle, and at its end."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from redis.asyncio.client import PubSub
from redis.asyncio.connection import Connection
from redis.exceptions import TimeoutError as RedisTimeoutError

from asgi_wasm.host.ports import PortError
from asgi_wasm.services.stores.store import Store
from tests.driving import until
from tests.redis_server import BINARY, MISSING, RedisServer, redis_server
from tests.services.stores.conftest import Place
from tests.services.stores.listening import Listener, all_heard
from tests.services.stores.redis_away import connections, cut, hurry, levels, until_it_answers, waited
from tests.waiting import SECONDS

pytestmark = pytest.mark.skipif(BINARY is None, reason=MISSING)


async def test_an_owner_whose_connection_was_cut_is_one_again(server: RedisServer) -> None:
    async with Place(f"{server.url}?timeout=60").stores() as (store, other):
        first, last = Listener(other), Listener(store)
        token = other.queues.register("vm", b"q", first.root)
        store.queues.register("vm", b"q", last.root)
        await cut(store, store, other)
        other.queues.enqueue(token, b"x")
        await until(lambda: last.heard == [token])
        assert first.heard == []


async def test_what_was_queued_while_nobody_listened_is_told(server: RedisServer) -> None:
    async with Place(f"{server.url}?timeout=60").stores() as (store, other):
        owner = Listener(store)
        token = store.queues.register("vm", b"q", owner.root)

        def queue_three() -> None:
            for _ in range(3):
                other.queues.enqueue(token, b"x")

        await cut(other, store, other, meanwhile=queue_three)
        await until(lambda: owner.heard == [token] * 3)
        assert await all_heard(owner, store, other) == [token] * 3


async def test_a_silent_listener_is_asked_whether_it_is_there(
    server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_wasm.services.stores.redis.connections._SILENCE_SECONDS", 0.1)
    ping, get_message = PubSub.ping, PubSub.get_message
    asked: list[PubSub] = []
    # What was asked of a server that is not frozen, and may be slow.
    unanswered: list[PubSub] = []
    is_frozen = False

    async def counted(subscription: PubSub) -> None:
        asked.append(subscription)
        if not is_frozen:
            unanswered.append(subscription)
        await ping(subscription)

    async def patient(subscription: PubSub, *, timeout: float) -> object:
        message = await get_message(subscription, timeout=SECONDS if unanswered else timeout)
        unanswered.clear()
        return message

    monkeypatch.setattr(PubSub, "ping", counted)
    monkeypatch.setattr(PubSub, "get_message", patient)

    async with Place(f"{server.url}?timeout=60").stores(1) as (store,):
        # It is asked again since it has answered.
        await until(lambda: len(asked) >= 2 and not unanswered)
        assert levels(caplog) == []
        hurry(store)
        is_frozen = True
        server.freeze()
        # No hostcall is made: the silence is noticed.
        await until(lambda: levels(caplog) == ["ERROR"])
        assert waited(store) == 0


async def test_a_listener_that_is_dead_while_hostcalls_are_answered(
    server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a firewall forgot that one connection. Stood in for by a ping that gets lost."""
    monkeypatch.setattr("asgi_wasm.services.stores.redis.connections._SILENCE_SECONDS", 0.1)

    async def lost(subscription: PubSub) -> None:
        pass

    monkeypatch.setattr(PubSub, "ping", lost)
    async with Place(f"{server.url}?timeout=60").stores(1) as (store,):
        await until(lambda: levels(caplog)[:1] == ["ERROR"])
        monkeypatch.undo()
        await until_it_answers(store)
    assert "ping" in caplog.text


async def test_an_idle_connection_is_kept(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis's setting `timeout` closes what was idle for so many seconds."""
    monkeypatch.setattr("asgi_wasm.services.stores.redis.connections._SILENCE_SECONDS", 0.2)

    async def was_kept(store: Store) -> bool:
        """Raises AssertionError when it was not, and nothing else on this event loop had to wait for a second."""
        caplog.clear()
        made, longest = connections(store).made, 0.0
        end = time.monotonic() + 3
        while (began := time.monotonic()) < end:
            await asyncio.sleep(0.05)
            longest = max(longest, time.monotonic() - began)
        is_same = connections(store).made == made and levels(caplog) == []
        assert is_same or longest >= 0.5, f"lost, though the longest pause was {longest:.2f} s"
        return is_same

    with redis_server("--timeout", "1") as server:
        async with Place(f"{server.url}?timeout=60").stores(1) as (store,):
            end = time.monotonic() + SECONDS
            while not await was_kept(store):
                assert time.monotonic() < end
                await until_it_answers(store)
            assert store.shared_data.get("vm", b"k") is None


async def test_a_connection_that_cannot_be_closed_is_given_up(
    redis: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the other side takes long for it: what redis-py raises then ends the stop, and begins nothing anew."""
    close = PubSub.aclose

    async def late(subscription: PubSub) -> None:
        await close(subscription)  # type: ignore[no-untyped-call]
        raise RedisTimeoutError("Timed out closing connection")

    async with Place(f"{redis.url}?timeout=60").stores(1) as (store,):
        monkeypatch.setattr(PubSub, "aclose", late)
        await asyncio.wait_for(store.stop(), 60)
        with pytest.raises(PortError):
            store.shared_data.get("vm", b"k")
    assert levels(caplog) == []


async def test_a_cancellation_that_gets_lost_is_repeated(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `asyncio.wait_for`, which redis-py awaits, loses it before Python 3.12 where its work is done just then."""
    monkeypatch.setattr("asgi_wasm.services.stores.redis.connections._TEND_SECONDS", 0)

    async with Place(f"{redis.url}?timeout=60").stores(1) as (store,):
        tending, lost = asyncio.Event(), asyncio.Event()

        async def deaf() -> None:
            tending.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if lost.is_set():
                    raise
                lost.set()

        monkeypatch.setattr(store.queues.connections, "_tend", deaf)  # type: ignore[attr-defined]
        await tending.wait()
        await asyncio.wait_for(store.stop(), 60)
        assert lost.is_set()


async def test_connections_are_closed_however_often_their_task_is_cancelled(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a busy machine, where closing them takes longer than a cancellation is waited for."""
    monkeypatch.setattr("asgi_wasm.services.stores.redis.connections._END_SECONDS", 0)
    close, closed = Connection.disconnect, []

    async def slow(connection: Connection, *args: Any, **kwargs: Any) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        await close(connection, *args, **kwargs)
        closed.append(connection)

    monkeypatch.setattr(Connection, "disconnect", slow)
    async with Place(f"{redis.url}?timeout=60").stores(1) as (store,):
        await asyncio.wait_for(store.stop(), 60)
    assert closed and not any(each.is_connected for each in closed)
