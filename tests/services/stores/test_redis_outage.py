"""A Redis that is dead, frozen, a black hole, forgetful or unwilling: hostcalls fail fast, and the log says it once."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.client import PubSub
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from asgi_wasm.host.abi import MetricType
from asgi_wasm.host.ports import PortError
from asgi_wasm.services.stores.redis.connections import RedisConnections
from asgi_wasm.services.stores.store import Store
from tests.driving import until
from tests.redis_server import BINARY, MISSING, VALKEY, VALKEY_MISSING, RedisServer, redis_server
from tests.services.stores.conftest import Place
from tests.services.stores.listening import Listener
from tests.serving import free_port
from tests.waiting import SECONDS

pytestmark = pytest.mark.skipif(BINARY is None, reason=MISSING)

# Seconds that a hostcall waits for a server that is frozen: short, since none answers. Any other one is given 60, since
# what a busy machine answers late would be lost otherwise.
TIMEOUT = 0.5
CALLS = 200


@pytest.fixture(params=["redis", "valkey"])
def binary(request: pytest.FixtureRequest) -> str | None:
    """For what the two may answer differently."""
    if request.param == "valkey" and VALKEY is None:
        pytest.skip(VALKEY_MISSING)
    return VALKEY if request.param == "valkey" else BINARY


@pytest.fixture
def either(binary: str | None) -> Iterator[RedisServer]:
    with redis_server(binary=binary) as server:
        yield server


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def waited(store: Store) -> int:
    """How many of many hostcalls, each of which must fail, waited for the server: others are refused by what is known.

    They are made in one iteration of the event loop, in which no connection comes.
    """
    refused = []
    for _ in range(CALLS):
        with pytest.raises(PortError) as raised:
            store.shared_data.get("vm", b"k")
        refused.append(str(raised.value).endswith(" is not connected"))
    assert refused == sorted(refused), "once one was refused, all are"
    return refused.count(False)


def hurry(store: Store, seconds: float = TIMEOUT) -> None:
    """Let hostcalls over the connection that it has now, and over no later one, wait for so long only."""
    client: Any = connections(store)._client
    client.connection._limit._seconds = seconds


async def until_it_answers(store: Store) -> None:
    def answers() -> bool:
        try:
            store.shared_data.get("vm", b"k")
        except PortError:
            return False
        return True

    await until(answers)


async def cut(listening: Store, *stores: Store) -> None:
    """Lose the connections on which all stores over this Redis listen, and have those of the given ones back."""
    made = {store: connections(store).made for store in stores}
    connections(listening).call("CLIENT", "KILL", "TYPE", "pubsub")
    for store in stores:
        await until(lambda store=store: connections(store).made > made[store])  # type: ignore[misc]
        await until_it_answers(store)


def connections(store: Store) -> RedisConnections:
    found: RedisConnections = store.queues.connections  # type: ignore[attr-defined]
    return found


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records if record.name == "asgi_wasm.host"]


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


async def test_an_owner_whose_connection_was_cut_is_one_again(server: RedisServer) -> None:
    async with Place(f"{server.url}?timeout=60").stores() as (store, other):
        first, last = Listener(other), Listener(store)
        token = other.queues.register("vm", b"q", first.root)
        store.queues.register("vm", b"q", last.root)
        await cut(store, store, other)
        other.queues.enqueue(token, b"x")
        await until(lambda: last.heard == [token])
        assert first.heard == []


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


async def test_password(caplog: pytest.LogCaptureFixture) -> None:
    async def main(port: int) -> None:
        async with Place(f"redis://:right%40one@127.0.0.1:{port}/3?timeout=60").stores(1) as (store,):
            assert store.shared_data.set("vm", b"k", b"v", 0)
        assert levels(caplog) == []
        async with Place(f"redis://:wrong-one@127.0.0.1:{port}/3").stores(1) as (store,):
            with pytest.raises(PortError):
                store.shared_data.get("vm", b"k")

    with redis_server("--requirepass", "right@one") as server:
        await main(server.port)
    assert levels(caplog) == ["ERROR"]
    assert "WRONGPASS" in caplog.text or "invalid username" in caplog.text
    assert "wrong-one" not in caplog.text


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


# What `asgi_wasm/services/README.md` says that a user must be allowed, and no more.
RIGHTS = """
    ~asgi_wasm:* &asgi_wasm:* +bitfield +del +eval +exists +get +hdel +hget +hgetall +hmget +hset +lindex +llen +lpop
    +lpush +lrange +lrem +ping +publish +pubsub|numsub +rpush +sadd +select +set +smembers +srem +subscribe +time
    +unsubscribe
"""


@pytest.mark.parametrize("lacks", ["", "+hset"])
async def test_a_user_with_few_rights(either: RedisServer, caplog: pytest.LogCaptureFixture, lacks: str) -> None:
    from redis import Redis

    async def main() -> None:
        with Redis.from_url(either.url) as operator:
            rights = [right for right in RIGHTS.split() if right != lacks]
            operator.execute_command("ACL", "SETUSER", "app", "on", ">secret", *rights)
        place = Place(f"redis://app:secret@127.0.0.1:{either.port}/0?timeout=60")
        async with place.stores() as (store, other):
            if lacks:
                with pytest.raises(PortError):
                    store.shared_data.set("vm", b"k", b"v", 0)
                return
            assert store.shared_data.set("vm", b"k", b"v", 0)
            owner = Listener(store)
            token = store.queues.register("vm", b"q", owner.root)
            assert other.queues.enqueue(token, b"x") and other.queues.resolve("vm", b"q") == token
            await until(lambda: owner.heard == [token])
            assert store.queues.dequeue(token) == b"x"
            store.metrics.gauge_add("p", "g", 3)
            store.metrics.observe("p", "h", 3)
            assert other.metrics.value("p", MetricType.GAUGE, "g") == 3
            await store.queues._tend()  # type: ignore[attr-defined]

    await main()
    assert ("services/README.md lists what it must be allowed" in caplog.text) == bool(lacks)


@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
async def test_what_is_no_single_server_is_refused(
    binary: str | None, caplog: pytest.LogCaptureFixture, tmp_path: Path, kind: str
) -> None:
    conf = tmp_path / "redis.conf"
    cluster = f"cluster-enabled yes\ncluster-port {free_port()}\n" if kind == "cluster" else ""
    conf.write_text(f"dir {tmp_path}\n{cluster}")
    arguments = [str(conf), *(["--sentinel"] if kind == "sentinel" else [])]

    async def main(url: str) -> None:
        async with Place(f"{url}?timeout=60").stores(1) as (store,):
            with pytest.raises(PortError):
                store.shared_data.get("vm", b"k")

    with redis_server(*arguments, keeps_nothing=False, binary=binary) as server:
        await main(server.url)
    assert f"it is {'part of a Redis Cluster' if kind == 'cluster' else 'a Sentinel'}" in caplog.text


async def test_tls(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from tests.upstreams import Certificate

    certificate, port = Certificate(tmp_path), free_port()
    files = ["--tls-cert-file", certificate.file, "--tls-key-file", certificate.key, "--tls-auth-clients", "no"]
    arguments = [*map(str, files), "--tls-ca-cert-file", str(certificate.file), "--tls-port", str(port)]

    with redis_server(*arguments):
        url = f"rediss://127.0.0.1:{port}/0?timeout=60"
        async with Place(f"{url}&ssl_ca_certs={certificate.file}").stores() as (store, other):
            owner = Listener(store)
            token = store.queues.register("vm", b"q", owner.root)
            assert other.queues.enqueue(token, b"x")
            await until(lambda: owner.heard == [token])
        async with Place(url).stores(1) as (store,):
            with pytest.raises(PortError):
                store.shared_data.get("vm", b"k")
    assert "certificate" in caplog.text.lower()


async def test_what_was_queued_while_nobody_listened_is_told(server: RedisServer) -> None:
    async with Place(f"{server.url}?timeout=60").stores() as (store, other):
        owner = Listener(store)
        token = store.queues.register("vm", b"q", owner.root)
        listening = store.queues.connections  # type: ignore[attr-defined]
        made = listening.made
        other.queues.connections.call("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[attr-defined]
        for _ in range(3):
            other.queues.enqueue(token, b"x")
        await until(lambda: listening.made > made)
        await until(lambda: owner.heard == [token] * 3)
        await asyncio.sleep(0.1)
        assert owner.heard == [token] * 3


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


async def test_cas_numbers_wrap_past_0(redis: RedisServer) -> None:
    async with Place(f"{redis.url}?prefix=wrap:&timeout=60").stores(1) as (store,):
        store.queues.connections.call("HSET", "wrap:data:vm:k", "value", "old", "cas", 0xFFFFFFFF)  # type: ignore[attr-defined]
        assert store.shared_data.get("vm", b"k") == (b"old", 0xFFFFFFFF)
        assert store.shared_data.set("vm", b"k", b"new", 0xFFFFFFFF)
        assert store.shared_data.get("vm", b"k") == (b"new", 1)
        store.queues.connections.call("HSET", "wrap:data:vm:k", "cas", 0xFFFFFFFE)  # type: ignore[attr-defined]
        assert store.shared_data.set("vm", b"k", b"new", 0xFFFFFFFE)
        assert store.shared_data.get("vm", b"k") == (b"new", 0xFFFFFFFF)


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
        await asyncio.sleep(0.05)
        assert owner.heard == [token] * 4


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
