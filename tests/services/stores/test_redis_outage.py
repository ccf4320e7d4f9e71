"""A Redis that is dead, frozen, a black hole or forgetful: hostcalls fail fast, and nothing that it knew of is lost."""

from __future__ import annotations

import asyncio
import socket

import pytest

from asgi_wasm.host.abi import MetricType
from asgi_wasm.host.ports import PortError
from tests.driving import until
from tests.redis_server import BINARY, MISSING, RedisServer
from tests.services.stores.conftest import Place
from tests.services.stores.listening import Listener
from tests.services.stores.redis_away import hurry, levels, until_it_answers, waited

pytestmark = pytest.mark.skipif(BINARY is None, reason=MISSING)


async def test_stopped_and_started_again(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with Place(f"{server.url}?timeout=60").stores() as (store, other):
        owner = Listener(store)
        token = store.queues.register("vm", b"q", owner.root)
        caplog.clear()
        server.stop()
        assert waited(store) == 1
        with pytest.raises(PortError):
            store.queues.enqueue(token, b"x")
        assert levels(caplog) == ["ERROR"]
        server.start()
        await until_it_answers(store)
        await until_it_answers(other)
        # It has forgotten everything; the owner introduced itself anew, under the same token.
        assert other.queues.enqueue(token, b"x")
        await until(lambda: owner.heard == [token])
    # Each of the two stores says it once.
    assert sorted(levels(caplog)) == ["ERROR", "ERROR", "WARNING", "WARNING"]
    assert "does not answer" in caplog.text and "answers again" in caplog.text


async def test_frozen_and_thawed(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with Place(f"{server.url}?timeout=60").stores(1) as (store,):
        hurry(store)
        server.freeze()
        assert waited(store) == 1
        # While it tries to connect again, too, and the event loop is not held.
        for _ in range(10):
            await asyncio.sleep(0.1)
            assert waited(store) == 0
        assert levels(caplog) == ["ERROR"]
        server.thaw()
        await until_it_answers(store)
    assert levels(caplog) == ["ERROR", "WARNING"]


@pytest.mark.parametrize("listens", [True, False], ids=["accepts and never answers", "refuses"])
async def test_not_there_at_the_start(
    listens: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_wasm.services.stores.redis.connections._CONNECT_SECONDS", 0.5)

    with socket.socket() as black_hole:
        black_hole.bind(("127.0.0.1", 0))
        if listens:
            black_hole.listen(50)
        async with Place(f"redis://:secret@127.0.0.1:{black_hole.getsockname()[1]}").stores(1) as (store,):
            # Its start waited for the first try, and not for the most that it waits.
            assert "it has not been connected yet" not in caplog.text
            assert waited(store) == 0
            await asyncio.sleep(1)
            assert waited(store) == 0
    assert levels(caplog) == ["ERROR"]
    assert "secret" not in caplog.text


async def test_startup_does_not_wait_for_ever(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_wasm.services.stores.redis.connections._START_SECONDS", 0.1)

    with socket.socket() as black_hole:
        black_hole.bind(("127.0.0.1", 0))
        black_hole.listen(50)
        async with Place(f"redis://127.0.0.1:{black_hole.getsockname()[1]}").stores(1) as (store,):
            assert waited(store) == 0
    assert "it has not been connected yet" in caplog.text


async def test_a_value_whose_answer_is_lost_goes_back(either: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the front, and the owner is told of what is there."""
    async with Place(f"{either.url}?timeout=60").stores(1) as (store,):
        owner = Listener(store)
        token = store.queues.register("vm", b"q", owner.root)
        for value in (b"1", b"2", b"3", b"4"):
            store.queues.enqueue(token, value)
        assert store.queues.dequeue(token) == b"1"
        await until(lambda: len(owner.heard) == 4)
        hurry(store)
        either.freeze()
        with pytest.raises(PortError):
            store.queues.dequeue(token)
        either.thaw()
        await until_it_answers(store)
        await until(lambda: len(owner.heard) >= 7)
        assert [store.queues.dequeue(token) for _ in range(4)] == [b"2", b"3", b"4", None]


async def test_a_value_that_a_killed_worker_had_taken_goes_back(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for what it had worked by then."""
    monkeypatch.setattr("asgi_wasm.services.stores.redis.connections._TEND_SECONDS", 0.1)
    monkeypatch.setattr("asgi_wasm.services.stores.redis.queues._GONE_SECONDS", 1)

    place = Place(f"{server.url}?timeout=60")
    async with place.stores(1) as (store,):
        owner = Listener(store)
        async with place.stores(1) as (killed,):
            token = killed.queues.register("vm", b"q", Listener(killed).root)
            store.queues.register("vm", b"q", owner.root)
            killed.queues.register("vm", b"q", Listener(killed).root)
            for value in (b"1", b"2", b"3"):
                store.queues.enqueue(token, value)
            assert killed.queues.dequeue(token) == b"1"
            await until(lambda: killed.queues._acknowledging is None)  # type: ignore[attr-defined]
            # No iteration of the event loop between this and its end.
            assert killed.queues.dequeue(token) == b"2"
            monkeypatch.setattr(killed.queues, "settle", lambda: asyncio.sleep(0))
            killed.queues._acknowledging.cancel()  # type: ignore[attr-defined]
        await until(lambda: owner.heard == [token] * 2)
        assert [store.queues.dequeue(token) for _ in range(3)] == [b"2", b"3", None]


async def test_gauges_outlive_a_lost_connection(server: RedisServer) -> None:
    """Others forget the parts of a worker that they cannot see; it brings its own along."""
    async with Place(f"{server.url}?timeout=60").stores() as (store, other):
        store.metrics.gauge_add("p", "g", 5)
        store.metrics.gauge_add("p", "g", -2)
        server.stop()
        server.start()
        await until_it_answers(store)
        await until_it_answers(other)
        assert other.metrics.value("p", MetricType.GAUGE, "g") == 3
