"""The ASGI app that is scraped."""

from __future__ import annotations

import gzip
import subprocess
import sys
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from asgi_wasm import MissingExtraError, WasmMiddleware, metrics_app
from asgi_wasm.asgi.types import Message
from asgi_wasm.services.metrics.registry import MetricRegistry
from asgi_wasm.testing import Hostcalls
from tests.driving import Response, answering, request
from tests.guests import CONTINUE, Guest, Wrap
from tests.redis_server import BINARY, MISSING, redis_server
from tests.services.metrics.scraping import Scrape


@pytest.fixture(autouse=True)
def one_metric(store: MetricRegistry) -> None:
    store.family("hits", "counter", "Hits.").counter((("plugin", "p"),)).inc()


@pytest.mark.skipif(BINARY is None, reason=MISSING)
async def test_neither_a_scrape_nor_the_status_asks_the_store(
    wrap_guests: Wrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostcall has to, and holds the event loop for that long; what is read for people does not."""
    pytest.importorskip("redis", reason="redis is not installed")
    from asgi_wasm.services.stores.redis.connections import RedisConnections

    commands: list[tuple[object, ...]] = []
    call = RedisConnections.call

    def told(self: RedisConnections, *command: bytes | str | int) -> Any:
        commands.append(command)
        return call(self, *command)

    monkeypatch.setattr(RedisConnections, "call", told)

    def on_request_headers(api: Hostcalls, *_: int) -> int:
        api.increment_metric(api.define_metric(0, b"counted"), 1)
        return CONTINUE

    async def main(url: str) -> None:
        settings: dict[str, Any] = {"shared_data": url, "shared_metrics": True, "metrics": True}
        app = wrap_guests(answering(b"app"), Guest(on_request_headers=on_request_headers), **settings)
        await app.start()
        await request(app)
        assert len(commands) == 1
        assert "counted_total" in (await request(metrics_app)).body.decode()
        (plugin,) = app.status().plugins
        assert plugin.counters == {"counted": 1}
        assert len(commands) == 1
        await app.stop()

    with redis_server() as server:
        await main(f"{server.url}?timeout=60")


async def asked(method: str = "GET", **headers: str) -> Response:
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]

    return await request(metrics_app, method, headers=pairs)


async def test_text() -> None:
    response = await asked()
    assert response.header(b"content-type") == b"text/plain; version=0.0.4; charset=utf-8"
    assert response.header(b"content-length") == b"%d" % len(response.body)
    assert Scrape(response.body.decode()).get("hits_total", plugin="p") == 1


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=1.0.0",
        # Prometheus's own.
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1",
    ],
)
async def test_openmetrics(accept: str) -> None:
    response = await asked(accept=accept)
    assert (response.header(b"content-type") or b"").startswith(b"application/openmetrics-text; version=1.0.0")
    assert response.body.endswith(b"# EOF\n")
    assert Scrape(response.body.decode(), openmetrics=True).get("hits_total", plugin="p") == 1


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=nonsense", "\xff\xfe", ";;;,=,"])
async def test_strange_accept_header(accept: str) -> None:
    response = await asked(accept=accept)
    assert (response.status, response.header(b"content-type")) == (200, b"text/plain; version=0.0.4; charset=utf-8")


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", b"gzip"),
        ("deflate, GZIP;q=0.5", b"gzip"),
        ("br", None),
        ("gzip;q=0", None),
        ("gzip; q=0.00", None),
        ("notgzip", None),
    ],
)
async def test_gzip(accepted: str, coding: bytes | None) -> None:
    response = await asked(accept_encoding=accepted)
    assert response.header(b"content-encoding") == coding
    body = gzip.decompress(response.body) if coding else response.body
    assert Scrape(body.decode()).get("hits_total", plugin="p") == 1


async def test_head() -> None:
    head, get = await asked("HEAD"), await asked()
    assert (head.status, head.headers, head.body) == (200, get.headers, b"")


async def test_other_methods() -> None:
    response = await asked("POST")
    assert (response.status, response.header(b"allow")) == (405, b"GET, HEAD")


async def test_mounted() -> None:
    async def main() -> httpx.Response:
        app = FastAPI()
        app.mount("/metrics", metrics_app)
        transport = httpx.ASGITransport(app)
        # Starlette redirects to /metrics/, and Prometheus too follows that.
        async with httpx.AsyncClient(transport=transport, base_url="http://test", follow_redirects=True) as client:
            return await client.get("/metrics")

    assert "hits_total" in (await main()).text


async def test_websocket_is_refused_and_lifespan_unknown() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is asked for")

    async def main(scope: dict[str, Any]) -> None:
        await metrics_app(scope, receive, send)

    await main({"type": "websocket"})
    assert [message["type"] for message in sent] == ["websocket.close"]
    with pytest.raises(NotImplementedError):
        await main({"type": "lifespan"})


async def test_directory_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "none"))
    response = await asked()
    assert response.status == 503
    sentence = (
        f"PROMETHEUS_MULTIPROC_DIR: {tmp_path / 'none'} is no directory: make it, empty, before the server starts"
    )
    assert response.body.decode() == sentence


async def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.worker.telemetry.find_spec", lambda name: None)
    assert ((await asked()).status, (await asked()).body) == (
        503,
        b"metrics are asked for: pip install 'asgi-wasm[metrics]'",
    )
    app = WasmMiddleware(answering(), settings={"plugins": [], "metrics": True})
    with pytest.raises(MissingExtraError, match=r"^the settings say 'metrics': pip install 'asgi-wasm\[metrics\]'$"):
        await app.start()


def test_nothing_is_imported_before_it_is_needed() -> None:
    script = (
        "import asyncio, sys\n"
        "from asgi_wasm import WasmMiddleware, metrics_app\n"
        "app = WasmMiddleware(None, settings={'plugins': []})\n"
        "asyncio.run(app.start())\n"
        "print('prometheus_client' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "False"
