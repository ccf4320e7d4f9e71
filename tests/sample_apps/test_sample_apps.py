"""Each sample under a real uvicorn, as its README says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
import websockets

from tests.serving import Server, serve

SAMPLES = {
    "fastapi": ("sample_apps.fastapi_app.main:app", "rust"),
    "starlette": ("sample_apps.starlette_app.main:app", "c"),
    "django": ("sample_apps.django_app.asgi:application", "assemblyscript"),
}


@pytest.fixture(scope="module", params=SAMPLES)
def sample(request: pytest.FixtureRequest) -> Iterator[tuple[str, Server]]:
    app, language = SAMPLES[request.param]
    with serve(app) as server:
        yield language, server


def test_plugin_answers(sample: tuple[str, Server]) -> None:
    language, server = sample
    response = httpx.get(server.url)
    assert (response.status_code, response.text) == (200, "hello world")
    assert response.headers["x-wasm-plugin"] == f"fault_injection/{language}"


def test_route_has_its_own_conf(sample: tuple[str, Server]) -> None:
    response = httpx.get(f"{sample[1].url}/teapot")
    assert (response.status_code, response.text) == (418, "I am a teapot")


def test_app_is_reached_untouched(sample: tuple[str, Server]) -> None:
    response = httpx.get(f"{sample[1].url}/app")
    assert response.status_code == 200
    assert response.json()["from"] == "the app"
    assert "x-wasm-plugin" not in response.headers


def test_start_up_is_told_in_one_line(sample: tuple[str, Server]) -> None:
    log = sample[1].log()
    assert log.count("plugin 'fault-injection'") == 1
    assert "engine wasmtime" in log
    assert "Traceback" not in log


def test_fastapi_reads_what_plugins_set() -> None:
    with serve(SAMPLES["fastapi"][0]) as server:
        assert httpx.get(f"{server.url}/app").json() == {"from": "the app", "user": "nobody"}


def test_starlette_streams_and_speaks_websocket() -> None:
    async def talk(port: int) -> str:
        async with websockets.connect(f"ws://127.0.0.1:{port}/echo") as socket:
            await socket.send("hello")
            return str(await socket.recv())

    with serve(SAMPLES["starlette"][0]) as server:
        with httpx.stream("GET", f"{server.url}/events") as response:
            assert next(response.iter_text()) == "data: 0\n\n"
        assert asyncio.run(talk(server.port)) == "hello"


def test_django_reads_bodies() -> None:
    with serve(SAMPLES["django"][0]) as server:
        assert httpx.post(f"{server.url}/echo", content=b"x" * 70_000).content == b"x" * 70_000
