"""A Redis that is dead, frozen, a black hole, forgetful or unwilling: hostcalls fail fast, and the log says it once."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest
from redis.asyncio.client import PubSub

from asgi_wasm.host.ports import PortError
from asgi_wasm.services.store import Store
from tests.driving import run, until
from tests.redis_server import BINARY, MISSING, RedisServer, redis_server
from tests.services.conftest import Place
from tests.services.listening import Listener

pytestmark = pytest.mark.skipif(BINARY is None, reason=MISSING)

TIMEOUT = 0.2
# A busy machine may stop us for a while, but not for many time limits.
SLACK = 1.0
CALLS = 200


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def failing_calls_seconds(store: Store) -> float:
    """How long many hostcalls take together, each of which must fail."""
    began = time.monotonic()
    for _ in range(CALLS):
        with pytest.raises(PortError):
            store.shared_data.get("vm", b"k")
    return time.monotonic() - began


async def until_it_answers(store: Store) -> None:
    def answers() -> bool:
        try:
            store.shared_data.get("vm", b"k")
        except PortError:
            return False
        return True

    await until(answers)


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records if record.name == "asgi_wasm.host"]


def test_stopped_and_started_again(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Place(f"{server.url}?timeout={TIMEOUT}").stores() as (store, other):
            owner = Listener(store)
            token = store.queues.register("vm", b"q", owner.root)
            caplog.clear()
            server.stop()
            assert failing_calls_seconds(store) < TIMEOUT + SLACK
            with pytest.raises(PortError):
                store.queues.enqueue(token, b"x")
            assert levels(caplog) == ["ERROR"]
            server.start()
            await until_it_answers(store)
            await until_it_answers(other)
            # It has forgotten everything; the owner introduced itself anew, under the same token.
            assert other.queues.enqueue(token, b"x")
            await until(lambda: owner.heard == [token])

    run(main)
    # Each of the two stores says it once.
    assert sorted(levels(caplog)) == ["ERROR", "ERROR", "WARNING", "WARNING"]
    assert "does not answer" in caplog.text and "answers again" in caplog.text


def test_frozen_and_thawed(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Place(f"{server.url}?timeout={TIMEOUT}").stores(1) as (store,):
            server.freeze()
            assert failing_calls_seconds(store) < TIMEOUT + SLACK
            # While it tries to connect again, too, and the event loop is not held.
            began = time.monotonic()
            for _ in range(10):
                await asyncio.sleep(0.1)
                assert failing_calls_seconds(store) < SLACK
            assert time.monotonic() - began < 10 * 0.1 + 10 * SLACK
            assert levels(caplog) == ["ERROR"]
            server.thaw()
            await until_it_answers(store)

    run(main)
    assert levels(caplog) == ["ERROR", "WARNING"]


def test_an_owner_whose_connection_was_cut_is_one_again(server: RedisServer) -> None:
    async def main() -> None:
        async with Place(f"{server.url}?timeout={TIMEOUT}").stores() as (store, other):
            first, last = Listener(other), Listener(store)
            token = other.queues.register("vm", b"q", first.root)
            store.queues.register("vm", b"q", last.root)
            store.queues.link.call("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[attr-defined]
            await asyncio.sleep(0.1)
            await until_it_answers(store)
            await until_it_answers(other)
            other.queues.enqueue(token, b"x")
            await until(lambda: last.heard == [token])
            assert first.heard == []

    run(main)


@pytest.mark.parametrize("listens", [True, False], ids=["accepts and never answers", "refuses"])
def test_not_there_at_the_start(
    listens: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_wasm.services.redis_link._CONNECT_SECONDS", 0.5)

    async def main() -> None:
        with socket.socket() as black_hole:
            black_hole.bind(("127.0.0.1", 0))
            if listens:
                black_hole.listen(50)
            began = time.monotonic()
            async with Place(f"redis://:secret@127.0.0.1:{black_hole.getsockname()[1]}").stores(1) as (store,):
                assert time.monotonic() - began < 5 + SLACK
                assert failing_calls_seconds(store) < SLACK
                await asyncio.sleep(1)
                assert failing_calls_seconds(store) < SLACK

    run(main)
    assert levels(caplog) == ["ERROR"]
    assert "secret" not in caplog.text


def test_startup_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.services.redis_link._START_SECONDS", 0.1)

    async def main() -> None:
        with socket.socket() as black_hole:
            black_hole.bind(("127.0.0.1", 0))
            black_hole.listen(50)
            async with Place(f"redis://127.0.0.1:{black_hole.getsockname()[1]}").stores(1) as (store,):
                assert failing_calls_seconds(store) < SLACK

    run(main)
    assert "it has not been connected yet" in caplog.text


def test_password(caplog: pytest.LogCaptureFixture) -> None:
    async def main(port: int) -> None:
        async with Place(f"redis://:right%40one@127.0.0.1:{port}/3?timeout=5").stores(1) as (store,):
            assert store.shared_data.set("vm", b"k", b"v", 0)
        assert levels(caplog) == []
        async with Place(f"redis://:wrong-one@127.0.0.1:{port}/3").stores(1) as (store,):
            with pytest.raises(PortError):
                store.shared_data.get("vm", b"k")

    with redis_server("--requirepass", "right@one") as server:
        run(lambda: main(server.port))
    assert levels(caplog) == ["ERROR"]
    assert "WRONGPASS" in caplog.text or "invalid username" in caplog.text
    assert "wrong-one" not in caplog.text


def test_a_full_server_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """It answers, but not to writes: that is an outage too, with a longer and longer pause."""

    async def main(url: str) -> None:
        async with Place(f"{url}?timeout=5").stores(1) as (store,):
            for _ in range(100):
                with pytest.raises(PortError):
                    store.shared_data.set("vm", b"k", b"v", 0)
                await asyncio.sleep(0.01)

    with redis_server("--maxmemory", "1", "--maxmemory-policy", "noeviction") as server:
        run(lambda: main(server.url))
    assert 1 <= levels(caplog).count("ERROR") <= 4


def test_a_silent_listener_is_asked_whether_it_is_there(
    server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_wasm.services.redis_link._SILENCE_SECONDS", 0.1)

    async def main() -> None:
        async with Place(f"{server.url}?timeout={TIMEOUT}").stores(1) as (store,):
            await asyncio.sleep(0.5)
            assert levels(caplog) == []
            server.freeze()
            # No hostcall is made: the silence is noticed.
            await until(lambda: levels(caplog) == ["ERROR"])
            assert failing_calls_seconds(store) < SLACK

    run(main)


def test_a_listener_that_is_dead_while_hostcalls_are_answered(
    server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a firewall forgot that one connection. Stood in for by a ping that gets lost."""
    monkeypatch.setattr("asgi_wasm.services.redis_link._SILENCE_SECONDS", 0.1)

    async def lost(subscription: PubSub) -> None:
        pass

    async def main() -> None:
        async with Place(f"{server.url}?timeout=5").stores(1) as (store,):
            monkeypatch.setattr(PubSub, "ping", lost)
            await until(lambda: levels(caplog) == ["ERROR"])
            monkeypatch.undo()
            await until_it_answers(store)

    run(main)
    assert "ping" in caplog.text


def test_an_idle_connection_is_kept(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis's setting `timeout` closes what was idle for so many seconds."""
    monkeypatch.setattr("asgi_wasm.services.redis_link._SILENCE_SECONDS", 0.2)

    async def main(url: str) -> None:
        async with Place(f"{url}?timeout=5").stores(1) as (store,):
            await asyncio.sleep(3)
            assert store.shared_data.get("vm", b"k") is None

    with redis_server("--timeout", "1") as server:
        run(lambda: main(server.url))
    assert levels(caplog) == []


def test_cas_numbers_wrap_past_0(redis: RedisServer) -> None:
    async def main() -> None:
        async with Place(f"{redis.url}?prefix=wrap:&timeout=5").stores(1) as (store,):
            store.queues.link.call("HSET", "wrap:data:vm:k", "value", "old", "cas", 0xFFFFFFFF)  # type: ignore[attr-defined]
            assert store.shared_data.get("vm", b"k") == (b"old", 0xFFFFFFFF)
            assert store.shared_data.set("vm", b"k", b"new", 0xFFFFFFFF)
            assert store.shared_data.get("vm", b"k") == (b"new", 1)
            store.queues.link.call("HSET", "wrap:data:vm:k", "cas", 0xFFFFFFFE)  # type: ignore[attr-defined]
            assert store.shared_data.set("vm", b"k", b"new", 0xFFFFFFFE)
            assert store.shared_data.get("vm", b"k") == (b"new", 0xFFFFFFFF)

    run(main)


def test_an_owner_that_cannot_introduce_itself_stays_out_until_it_can(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    from redis import Redis

    async def main() -> None:
        async with Place(f"{server.url}?timeout=5").stores(1) as (store,):
            owner = Listener(store)
            token = store.queues.register("vm", b"q", owner.root)
            with Redis.from_url(server.url) as operator:
                operator.config_set("maxmemory", 1)
                with pytest.raises(PortError):
                    store.queues.enqueue(token, b"x")
                await asyncio.sleep(1)
                assert levels(caplog) == ["ERROR"]
                operator.config_set("maxmemory", 0)
            await until_it_answers(store)
            store.queues.enqueue(token, b"x")
            await until(lambda: owner.heard == [token])

    run(main)
    assert levels(caplog) == ["ERROR", "WARNING"]
