"""Each sample under a real uvicorn, as its README says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest
import websockets

from tests.serving import Server, serve
from tests.waiting import wait_until

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


def test_starlette_streams() -> None:
    """An event leaves as it is made: the last one comes later than the first, by what the app waits between them."""
    told: list[list[str]] = []

    def come_one_by_one() -> bool:
        with httpx.stream("GET", f"{server.url}/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            arrived = [(text, time.monotonic()) for text in response.iter_text()]
        told.append([text for text, _ in arrived])
        assert "".join(told[-1]) == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
        # Two pauses of 0.2 s; all at once would be no pause at all.
        return len(arrived) == 3 and arrived[-1][1] - arrived[0][1] > 0.2

    with serve(SAMPLES["starlette"][0]) as server:
        # Again where this client was left standing, and found several at once.
        wait_until(come_one_by_one, lambda: told)


def test_starlette_speaks_websocket() -> None:
    async def talk(port: int) -> list[str]:
        async with websockets.connect(f"ws://127.0.0.1:{port}/echo") as socket:
            answers = []
            for word in ("hello", "again", "x" * 100_000):
                await socket.send(word)
                answers.append(str(await socket.recv()))
            return answers

    async def meet_the_plugin(port: int) -> None:
        async with websockets.connect(f"ws://127.0.0.1:{port}/teapot"):
            raise AssertionError("the plugin was to deny it")

    with serve(SAMPLES["starlette"][0]) as server:
        assert asyncio.run(talk(server.port)) == ["hello", "again", "x" * 100_000]
        with pytest.raises(websockets.InvalidStatus) as caught:
            asyncio.run(meet_the_plugin(server.port))
        assert (caught.value.response.status_code, caught.value.response.body) == (418, b"I am a teapot")
        assert "Traceback" not in server.log()


def test_django_reads_bodies() -> None:
    with serve(SAMPLES["django"][0]) as server:
        assert httpx.post(f"{server.url}/echo", content=b"x" * 70_000).content == b"x" * 70_000
        form = httpx.post(f"{server.url}/echo", data={"a": "1"})
        assert (form.status_code, form.text) == (200, "a=1")
        assert form.headers["content-type"] == "application/x-www-form-urlencoded"
        assert httpx.get(f"{server.url}/absent").status_code == 404
        assert "Traceback" not in server.log()
