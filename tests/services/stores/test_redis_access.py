"""A Redis that asks who comes: passwords, TLS, users with few rights; and what is no single server."""

from __future__ import annotations

from pathlib import Path

import pytest

from asgi_wasm.host.abi import MetricType
from asgi_wasm.host.ports import PortError
from tests.driving import until
from tests.redis_server import BINARY, MISSING, RedisServer, redis_server
from tests.services.stores.conftest import Place
from tests.services.stores.listening import Listener
from tests.services.stores.redis_away import levels
from tests.serving import free_port

pytestmark = pytest.mark.skipif(BINARY is None, reason=MISSING)


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
