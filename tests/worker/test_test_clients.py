"""Test clients, each with an event loop of its own, in threads and inside each other."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wasm import WasmMiddleware
from tests.worker.versions import HEADERS

with warnings.catch_warnings():
    # Newer releases of Starlette want httpx2 for it, and take httpx as well.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

THREADS = 8


def served() -> WasmMiddleware:
    """A real plugin before an app with a route of each kind."""

    async def home(request: Request) -> PlainTextResponse:
        return PlainTextResponse("app")

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    app = Starlette(routes=[Route("/", home), WebSocketRoute("/talk", talk)])
    conf = {"response": {"add": {"x-plugin": "1"}}}
    return WasmMiddleware(app, plugins=[{"name": "headers", "file": HEADERS, "conf": conf}], settings={})


def asked(app: WasmMiddleware, entered: bool) -> list[tuple[int, str | None]]:
    """What one test client gets."""
    client = TestClient(app)

    def ask() -> list[tuple[int, str | None]]:
        with client.websocket_connect("/talk") as session:
            session.send_text("hello")
            assert session.receive_text() == "hello"
        responses = [client.get("/") for _ in range(5)]
        return [(response.status_code, response.headers.get("x-plugin")) for response in responses]

    if not entered:
        return ask()
    with client:
        return ask()


@pytest.mark.parametrize("entered", [True, False], ids=["entered", "not entered"])
def test_test_clients_in_threads(entered: bool) -> None:
    app = served()
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda _: asked(app, entered), range(THREADS)))
    assert answers == [[(200, "1")] * 5] * THREADS
    assert len(app._workers) == 0
    assert app._workers._places == {}


def test_clients_of_both_kinds_at_once() -> None:
    """The lifespan of one client is not another's."""
    app = served()
    with TestClient(app) as outer:
        assert asked(app, True) == asked(app, False) == [(200, "1")] * 5
        assert len(app._workers) == 1
        assert outer.get("/").headers["x-plugin"] == "1"
    assert len(app._workers) == 0
