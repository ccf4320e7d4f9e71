"""The plugins `counter` and `queue` in two server processes that share a store, and in two that do not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from asgi_wasm.host.abi import MetricType
from asgi_wasm.services.stores.store import open_store
from asgi_wasm.settings.store_url import parse_store_url
from tests.driving import run
from tests.extras import LMDB_MISSING
from tests.plugins.conftest import PLUGINS
from tests.redis_server import BINARY, MISSING, redis_server
from tests.serving import Server, serve
from tests.waiting import PATIENT_WRITERS, wait_until

APP = (
    PATIENT_WRITERS
    + """
import logging
from asgi_wasm import WasmMiddleware

logging.basicConfig(level="INFO")


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


app = WasmMiddleware(hello)
"""
)
COUNTER = {"name": "counter", "file": str(PLUGINS / "counter/assemblyscript.wasm"), "root_id": "counter"}
QUEUE = {"name": "queue", "file": str(PLUGINS / "queue/rust.wasm")}
PLAIN = {"name": "trailers", "file": str(PLUGINS / "trailers/c.wasm")}
SECONDS = 60.0


@pytest.fixture(params=["lmdb", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "lmdb":
        if LMDB_MISSING:
            pytest.skip(LMDB_MISSING)
        yield f"lmdb://{tmp_path}/state"
    elif BINARY is None:
        pytest.skip(MISSING)
    else:
        with redis_server() as server:
            yield f"{server.url}?timeout=60"


@contextmanager
def server(folder: Path, *arguments: str, **settings: Any) -> Iterator[Server]:
    """A uvicorn with these settings."""
    folder.mkdir(exist_ok=True)
    (folder / "main.py").write_text(APP)
    # JSON is YAML too.
    (folder / "asgi-wasm.yaml").write_text(json.dumps({"cache_dir": str(folder / "compiled"), **settings}))
    with serve("main:app", *arguments, cwd=folder) as running:
        yield running


def count(running: Server, path: str = "/a") -> int:
    """What the plugin counted, 0 for nothing."""
    response = httpx.get(running.url + path)
    assert response.status_code == 200
    return int(response.headers.get("x-count", 0))


def test_counts_of_two_processes_are_one(url: str, tmp_path: Path) -> None:
    settings = {"plugins": [COUNTER], "shared_data": url, "shared_metrics": True}
    with server(tmp_path / "one", **settings) as one, server(tmp_path / "other", **settings) as other:
        assert [count(running) for running in (one, other, one, other)] == [1, 2, 3, 4]
        assert count(other, "/b") == 1

    async def requests() -> tuple[int, int]:
        store = open_store(parse_store_url(url))
        await store.start()
        counted = store.metrics.value("counter", MetricType.COUNTER, "counter.requests")
        in_flight = store.metrics.value("counter", MetricType.GAUGE, "counter.in_flight")
        await store.stop()
        return counted, in_flight

    assert run(requests) == (5, 0)


@pytest.mark.skipif(bool(LMDB_MISSING), reason=LMDB_MISSING)
def test_metrics_stay_in_the_process_unless_asked(tmp_path: Path) -> None:
    url = f"lmdb://{tmp_path}/state"
    with server(tmp_path, plugins=[COUNTER], shared_data=url) as running:
        assert count(running) == 1

    async def requests() -> int:
        store = open_store(parse_store_url(url))
        await store.start()
        counted = store.metrics.value("counter", MetricType.COUNTER, "counter.requests")
        await store.stop()
        return counted

    assert run(requests) == 0


def test_a_queue_wakes_the_last_registrant_and_the_one_before_it_when_that_has_gone(url: str, tmp_path: Path) -> None:
    settings = {"plugins": [QUEUE], "shared_data": url}
    with server(tmp_path / "one", **settings) as one:
        with server(tmp_path / "other", **settings) as other:
            for path in ("/1", "/2", "/3"):
                assert httpx.get(one.url + path).text == "hello"
                wait_until(lambda path=path: f"dequeued {path}" in other.log())  # type: ignore[misc]
            assert "dequeued" not in one.log()
        httpx.get(one.url + "/4")
        wait_until(lambda: "dequeued /4" in one.log())


def test_memory_is_each_processs_own(tmp_path: Path) -> None:
    with server(tmp_path / "one", plugins=[COUNTER]) as one, server(tmp_path / "other", plugins=[COUNTER]) as other:
        assert [count(running) for running in (one, other, one)] == [1, 1, 2]
        assert "several workers" not in one.log() + other.log()


def started(running: Server, workers: int) -> bool:
    return running.log().count("Application startup complete") == workers


def test_several_workers_over_memory_are_warned_of_once(tmp_path: Path) -> None:
    with server(tmp_path, "--workers", "3", plugins=[COUNTER, PLAIN]) as running:
        wait_until(lambda: started(running, 3))
        warnings = [line for line in running.log().splitlines() if "several workers" in line]
    assert len(warnings) == 1
    assert "'counter'" in warnings[0] and "'trailers'" not in warnings[0]


@pytest.mark.parametrize("plugin", [COUNTER, PLAIN], ids=["shared store", "plugin without state"])
def test_several_workers_that_need_no_warning(plugin: dict[str, str], tmp_path: Path) -> None:
    if plugin is COUNTER and LMDB_MISSING:
        pytest.skip(LMDB_MISSING)
    url = f"lmdb://{tmp_path}/state" if plugin is COUNTER else "memory://"
    with server(tmp_path, "--workers", "2", plugins=[plugin], shared_data=url) as running:
        wait_until(lambda: started(running, 2))
        assert "several workers" not in running.log()


def test_requests_go_on_without_redis_and_the_log_says_so_once(tmp_path: Path) -> None:
    if BINARY is None:
        pytest.skip(MISSING)
    with (
        redis_server() as redis,
        server(tmp_path, plugins=[COUNTER], shared_data=f"{redis.url}?timeout=60") as running,
    ):
        assert [count(running) for _ in range(3)] == [1, 2, 3]
        redis.stop()
        assert [count(running) for _ in range(10)] == [0] * 10
        assert running.log().count("does not answer") == 1
        redis.start()
        wait_until(lambda: count(running) > 1)
        assert running.log().count("answers again") == 1
