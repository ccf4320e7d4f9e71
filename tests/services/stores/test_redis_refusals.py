"""Error replies of every kind, from a server by hand: each refuses one hostcall, and nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from redis import Redis

from asgi_wasm.host.ports import PortError
from tests.driving import until
from tests.redis_server import RedisServer
from tests.services.stores.conftest import Place
from tests.services.stores.listening import Listener
from tests.services.stores.redis_away import until_it_answers


class Handler(socketserver.StreamRequestHandler):
    """Answers what a worker says when it connects, and `HMGET`: one of a key that ends in ``bad`` by an error."""

    server: Server

    def handle(self) -> None:
        self.server.connections += 1
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:-2])
            self.wfile.write(self.answer(*words))

    def answer(self, command: bytes, *words: bytes) -> bytes:
        if command == b"SUBSCRIBE":
            time.sleep(self.server.pause)
            return b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n" % (len(words[0]), words[0])
        if command == b"HMGET":
            is_bad = words[0].endswith(b"bad") and self.server.error
            return f"-{self.server.error}\r\n".encode() if is_bad else b"*2\r\n$1\r\nv\r\n$1\r\n1\r\n"
        return {b"INFO": b"$4\r\na:b\n\r\n", b"PING": b"+PONG\r\n"}.get(command, b"+OK\r\n")


ANSWERED = Handler.answer


class Server(socketserver.ThreadingTCPServer):
    """On threads: hostcalls hold the event loop."""

    daemon_threads = True

    def __init__(self, error: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.error = error
        self.connections = 0
        # Pieces of an answer that was given slowly.
        self.dripped = 0
        # Seconds that it takes for its first answer.
        self.pause = 0.0


@contextmanager
def serving(error: str) -> Iterator[tuple[Server, Place]]:
    with Server(error) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server, Place(f"redis://127.0.0.1:{server.server_address[1]}/0?timeout=60")
        server.shutdown()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "it is full"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "something else writes keys"),
        ("NOPERM User app has no permissions to run the 'hmget' command", "services/README.md lists"),
        ("BUSY Redis is busy running a script.", "somebody's script keeps it busy"),
        ("MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.", "its disk"),
        ("NOREPLICAS Not enough good replicas to write.", "min-replicas-to-write"),
        ("MOVED 3999 127.0.0.1:6381", "part of a Redis Cluster"),
        ("ASK 3999 127.0.0.1:6381", "part of a Redis Cluster"),
        ("CLUSTERDOWN Hash slot not served", "part of a Redis Cluster"),
        ("CROSSSLOT Keys in request don't hash to the same slot", "part of a Redis Cluster"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "Multiple keys"),
        ("ERR unknown command 'HMGET'", "unknown command"),
        ("ERR Error running script: too much", "too much"),
        ("whatever a module of somebody's answers", "whatever"),
        ("-", "refuses hostcalls"),
    ],
)
async def test_an_error_reply_is_an_answer(caplog: pytest.LogCaptureFixture, error: str, told: str) -> None:
    async def main(place: Place) -> None:
        async with place.stores(1) as (store,):
            for _ in range(20):
                with pytest.raises(PortError):
                    store.shared_data.get("vm", b"bad")
                assert store.shared_data.get("vm", b"good") == (b"v", 1)
            await asyncio.sleep(0.05)

    with serving(error) as (server, place):
        await main(place)
        assert server.connections == 2
    lines = [record.getMessage() for record in caplog.records if record.name == "asgi_wasm.host"]
    assert len(lines) == 1 and told in lines[0], lines


NO_VALUES = {
    "no number": {"value": "x", "cas": "abc"},
    "no value": {"cas": "5"},
    "below 0": {"value": "x", "cas": "-5"},
    "a fraction": {"value": "x", "cas": "1.5"},
    "nothing": {"value": "x", "cas": ""},
    "too large": {"value": "x", "cas": "4294967296"},
    "endless": {"value": "x", "cas": "9" * 5000},
}


@pytest.mark.parametrize("fields", NO_VALUES.values(), ids=NO_VALUES)
async def test_what_somebody_else_wrote_is_refused(
    redis: RedisServer, caplog: pytest.LogCaptureFixture, fields: dict[str, str]
) -> None:
    """Redis calls it no WRONGTYPE, since it is a hash as well."""

    async def main(place: Place, prefix: str) -> None:
        async with place.stores(1) as (store,):
            assert store.shared_data.set("vm", b"good", b"v", 0)
            with Redis(port=redis.port) as client:
                client.hset(f"{prefix}data:vm:bad", mapping=fields)
                for _ in range(2):
                    with pytest.raises(PortError, match="WRONGTYPE"):
                        store.shared_data.get("vm", b"bad")
            assert store.shared_data.get("vm", b"good") == (b"v", 1)

    prefix = f"{uuid4().hex}:"
    await main(Place(f"{redis.url}?prefix={prefix}&timeout=60"), prefix)
    lines = [record.getMessage() for record in caplog.records if record.name == "asgi_wasm.host"]
    assert len(lines) == 1 and "something else writes keys" in lines[0], lines


async def test_no_value_is_changed_that_somebody_else_wrote(redis: RedisServer) -> None:
    async def main(place: Place, prefix: str) -> None:
        async with place.stores(1) as (store,):
            with Redis(port=redis.port) as client:
                client.hset(f"{prefix}data:vm:bad", mapping={"value": "x", "cas": "abc"})
                for cas in (0, 1):
                    with pytest.raises(PortError, match="WRONGTYPE"):
                        store.shared_data.set("vm", b"bad", b"v", cas)
                assert client.hget(f"{prefix}data:vm:bad", "value") == b"x"

    prefix = f"{uuid4().hex}:"
    await main(Place(f"{redis.url}?prefix={prefix}&timeout=60"), prefix)


async def test_cas_numbers_wrap_past_0(redis: RedisServer) -> None:
    async with Place(f"{redis.url}?prefix=wrap:&timeout=60").stores(1) as (store,):
        store.queues.connections.call("HSET", "wrap:data:vm:k", "value", "old", "cas", 0xFFFFFFFF)  # type: ignore[attr-defined]
        assert store.shared_data.get("vm", b"k") == (b"old", 0xFFFFFFFF)
        assert store.shared_data.set("vm", b"k", b"new", 0xFFFFFFFF)
        assert store.shared_data.get("vm", b"k") == (b"new", 1)
        store.queues.connections.call("HSET", "wrap:data:vm:k", "cas", 0xFFFFFFFE)  # type: ignore[attr-defined]
        assert store.shared_data.set("vm", b"k", b"new", 0xFFFFFFFE)
        assert store.shared_data.get("vm", b"k") == (b"new", 0xFFFFFFFF)


async def test_what_somebody_else_says_wakes_nobody(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does it end the connection."""

    async def main(place: Place, prefix: str) -> None:
        async with place.stores(1) as (store,):
            listener = Listener(store)
            token = store.queues.register("vm", b"q", listener.root)
            with Redis(port=redis.port) as client:
                (channel,) = client.pubsub_channels(f"{prefix}wake:*")
                for data in (b"", b"garbage", b"-1", b"1 ", b"1 -1", b"\xff", b"9" * 5000):
                    client.publish(channel, data)
            store.queues.enqueue(token, b"value")
            await until(lambda: listener.heard == [token])
            assert store.queues.dequeue(token) == b"value"

    prefix = f"{uuid4().hex}:"
    await main(Place(f"{redis.url}?prefix={prefix}&timeout=60"), prefix)
    assert [record for record in caplog.records if record.name == "asgi_wasm.host"] == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("READONLY You can't write against a read only replica.", "it is a replica: name the primary"),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "lost its primary"),
    ],
)
async def test_a_replica_is_looked_up_again(caplog: pytest.LogCaptureFixture, error: str, told: str) -> None:
    """Its name may lead to the primary by then."""

    async def main(server: Server, place: Place) -> None:
        async with place.stores(1) as (store,):
            for _ in range(20):
                with pytest.raises(PortError):
                    store.shared_data.get("vm", b"bad")
                assert store.shared_data.get("vm", b"good") == (b"v", 1)
            await until(lambda: server.connections == 4)
            assert store.shared_data.get("vm", b"good") == (b"v", 1)

    with serving(error) as (server, place):
        await main(server, place)
    lines = [record.getMessage() for record in caplog.records if record.name == "asgi_wasm.host"]
    assert len(lines) == 1 and told in lines[0], lines


@pytest.mark.parametrize("error", ["LOADING Redis is loading the dataset in memory", "NOAUTH Authentication required."])
async def test_a_server_that_answers_nothing_yet_is_away(caplog: pytest.LogCaptureFixture, error: str) -> None:
    """Whatever is asked gets that answer: it is tried again until there is another."""

    async def main(server: Server, place: Place) -> None:
        async with place.stores(1) as (store,):
            for _ in range(20):
                with pytest.raises(PortError):
                    store.shared_data.get("vm", b"bad")
            server.error = ""
            await until_it_answers(store)

    with serving(error) as (server, place):
        await main(server, place)
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "asgi_wasm.host"]
    assert [level for level, _ in lines] == ["ERROR", "WARNING"], lines
    assert error.partition(" ")[2].rstrip(".") in lines[0][1]


async def test_an_answer_in_pieces_has_one_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece of it comes in time; all of them would hold the event loop for a minute."""

    def answer(self: Handler, command: bytes, *words: bytes) -> bytes:
        if command != b"HMGET":
            return ANSWERED(self, command, *words)
        with contextlib.suppress(OSError):
            for _ in range(600):
                self.wfile.write(b"*2\r\n$100000\r\n" if not self.server.dripped else b"v")
                self.server.dripped += 1
                time.sleep(0.1)
        return b""

    monkeypatch.setattr(Handler, "answer", answer)

    with serving("") as (server, place):
        async with Place(place.url.replace("timeout=60", "timeout=1")).stores(1) as (store,):
            with pytest.raises(PortError, match=r"[Tt]imed? ?out"):
                store.shared_data.get("vm", b"k")
            # It has heard of a part, or would have heard of all.
            assert 0 < server.dripped < 300


async def test_to_connect_may_take_as_long_as_a_hostcall_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who grants a slow network more than the default means both."""
    monkeypatch.setattr("asgi_wasm.services.stores.redis.connections._CONNECT_SECONDS", 0.1)

    async def main(place: Place) -> None:
        async with place.stores(1) as (store,):
            assert store.shared_data.get("vm", b"k") == (b"v", 1)

    with serving("") as (server, place):
        server.pause = 0.5
        await main(place)
