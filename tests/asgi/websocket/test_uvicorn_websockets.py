"""WebSockets through real plugins under a real uvicorn, over each of its implementations."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import websockets

from tests.asgi.uvicorn_app import assert_contexts_ended, plugin, talk, write
from tests.serving import Server, serve


@pytest.fixture(scope="module", params=["websockets", "websockets-sansio"])
def sockets(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sockets")
    env = write(
        folder,
        plugin("lifecycle/abi_0_2_1", priority=9),
        plugin("headers/rust", conf={"response": {"add": {"x-plugin": "1"}}}),
    )
    with serve("served:app", "--ws", request.param, env=env, cwd=folder) as running:
        yield running


def test_websocket_accept(sockets: Server) -> None:
    connection, answer = asyncio.run(talk(sockets))
    assert answer == "hello"
    assert connection.subprotocol == "chat"
    assert connection.response.headers["x-app"] == "1"
    assert connection.response.headers["x-plugin"] == "1"
    assert connection.response.headers["x-seen-status"] == "101"


def test_websocket_paused_and_resumed(sockets: Server) -> None:
    assert asyncio.run(talk(sockets, x_lifecycle="pause"))[1] == "hello"


def test_websocket_denied_by_a_plugin(sockets: Server) -> None:
    with pytest.raises(websockets.InvalidStatus) as caught:
        asyncio.run(talk(sockets, x_lifecycle="reply"))
    assert (caught.value.response.status_code, caught.value.response.body) == (403, b"reply")


def test_websocket_denied_by_the_app(sockets: Server) -> None:
    with pytest.raises(websockets.InvalidStatus, match="403"):
        asyncio.run(talk(sockets, "/denied"))


def test_websockets_leave_nothing_over(sockets: Server) -> None:
    """Runs last."""
    assert_contexts_ended(sockets)
    assert "Traceback" not in sockets.log()
