"""A Redis that is full, a replica, or holds what somebody else wrote: an error is an answer."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ResponseError

from asgi_wasm.host.ports import PortError
from tests.driving import until
from tests.redis_server import BINARY, MISSING, RedisServer
from tests.services.stores.conftest import Place
from tests.services.stores.listening import Listener, all_heard
from tests.services.stores.redis_away import connections, cut, levels, until_it_answers

pytestmark = pytest.mark.skipif(BINARY is None, reason=MISSING)


@pytest.mark.parametrize(
    ("refused", "told"),
    [("full", "it is full"), ("replica", "it is a replica"), ("wrong type", "something else writes keys")],
)
async def test_an_error_is_an_answer(
    either: RedisServer, caplog: pytest.LogCaptureFixture, refused: str, told: str
) -> None:
    """Reads go on between refused writes, and the log says it once."""
    from redis import Redis

    with Redis.from_url(either.url) as operator:
        async with Place(f"{either.url}?timeout=60").stores(1) as (store,):
            token = store.queues.register("vm", b"q", Listener(store).root)
            store.queues.enqueue(token, b"x")
            store.shared_data.set("vm", b"k", b"v", 0)
            if refused == "full":
                operator.config_set("maxmemory", 1)
            elif refused == "replica":
                operator.replicaof("127.0.0.1", "1")
            else:
                operator.rpush("asgi_wasm:data:vm:other", "x")
            for _ in range(50):
                with pytest.raises(PortError):
                    store.shared_data.set("vm", b"other", b"v", 0)
                assert store.shared_data.get("vm", b"k") == (b"v", 1)
                await asyncio.sleep(0.005)
            if refused == "full":
                # Nobody could empty it otherwise.
                assert store.queues.dequeue(token) == b"x"
                # It is kept until the callback is over, as ever.
                (taken,) = operator.keys("asgi_wasm:queue:*:taken:*")
                assert operator.hvals(taken) == [b"x"]
            operator.config_set("maxmemory", 0)
            operator.replicaof("NO", "ONE")
            operator.delete("asgi_wasm:data:vm:other")
            assert store.shared_data.set("vm", b"other", b"v", 0)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(lines) == 1 and told in lines[0]


async def test_a_replica_is_read_while_no_other_is_found(either: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """After a failover the name may lead nowhere for a while; what was connected before still answers."""
    from redis import Redis

    with Redis.from_url(either.url, single_connection_client=True) as operator:
        async with Place(f"{either.url}?timeout=60").stores(1) as (store,):
            made = connections(store).made
            store.shared_data.set("vm", b"k", b"v", 0)
            operator.config_set("maxclients", 1)
            operator.replicaof("127.0.0.1", "1")
            with pytest.raises(PortError):
                store.shared_data.set("vm", b"k", b"w", 0)
            for _ in range(2):
                tried = operator.info("stats")["rejected_connections"]
                await until(lambda tried=tried: operator.info("stats")["rejected_connections"] > tried)  # type: ignore[misc]
                assert store.shared_data.get("vm", b"k") == (b"v", 1)
            operator.config_set("maxclients", 100)
            operator.replicaof("NO", "ONE")
            await until(lambda: connections(store).made > made)
            await until_it_answers(store)
            assert store.shared_data.set("vm", b"k", b"w", 0)
    lines = [record.getMessage() for record in caplog.records if record.name == "asgi_wasm.host"]
    assert len(lines) == 1 and "it is a replica" in lines[0]


async def test_an_owner_of_a_full_server(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    from redis import Redis

    async with Place(f"{server.url}?timeout=60").stores(1) as (store,):
        owner = Listener(store)
        token = store.queues.register("vm", b"q", owner.root)
        with Redis.from_url(server.url) as operator:
            operator.config_set("maxmemory", 1)
            with pytest.raises(PortError):
                store.queues.enqueue(token, b"x")
            # It is not away, and goes on hearing; nor is it when its connection comes back meanwhile.
            await cut(store, store)
            operator.config_set("maxmemory", 0)
        store.queues.enqueue(token, b"x")
        await until(lambda: owner.heard == [token])
    assert levels(caplog) == ["ERROR", "ERROR", "WARNING"]


async def test_an_owner_to_whom_a_value_was_refused_is_told_again(either: RedisServer) -> None:
    """By an answer that is an error: the connection stays, and with it who was told of what."""
    from redis import Redis

    async with Place(f"{either.url}?timeout=60").stores(1) as (store,):
        owner = Listener(store)
        token = store.queues.register("vm", b"q", owner.root)
        for value in (b"1", b"2"):
            store.queues.enqueue(token, value)
        await until(lambda: owner.heard == [token] * 2)
        values = f"asgi_wasm:queue:{token}:values"
        with Redis.from_url(either.url) as operator:
            operator.rename(values, "aside")
            operator.set(values, "of another type")
            with pytest.raises(PortError):
                store.queues.dequeue(token)
            # While it is so, it is owed on.
            with pytest.raises(ResponseError):
                await store.queues._tend()  # type: ignore[attr-defined]
            operator.rename("aside", values)
        await store.queues._tend()  # type: ignore[attr-defined]
        await until(lambda: owner.heard == [token] * 4)
        # Once for each refusal.
        await store.queues._tend()  # type: ignore[attr-defined]
        assert await all_heard(owner, store, store) == [token] * 4


async def test_an_owner_that_comes_back_to_a_full_server_is_told_when_there_is_room(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new connection that cannot say whose it is owns nothing: nobody would hear of what came meanwhile."""
    from redis import Redis

    monkeypatch.setattr("asgi_wasm.services.stores.redis.connections._TEND_SECONDS", 0.1)

    async with Place(f"{server.url}?timeout=60").stores(1) as (store,):
        owner = Listener(store)
        token = store.queues.register("vm", b"q", owner.root)
        connections = store.queues.connections  # type: ignore[attr-defined]
        made = connections.made
        with Redis.from_url(server.url) as operator:
            connections.call("CLIENT", "KILL", "TYPE", "pubsub")
            store.queues.enqueue(token, b"x")
            operator.config_set("maxmemory", 1)
            await until(lambda: connections.made > made)
            await until_it_answers(store)
            await asyncio.sleep(0.3)
            assert owner.heard == []
            operator.config_set("maxmemory", 0)
        await until(lambda: owner.heard == [token])
