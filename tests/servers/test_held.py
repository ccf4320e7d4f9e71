"""A WebSocket whose 101 a plugin holds: its client leaves, or the server is told to end. All goes as bare."""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.extras import why_not
from tests.serving import Server, free_port, launch

APP = "tests.servers.held_app:app"
UVICORN = ["uvicorn", APP, "--host", "127.0.0.1", "--port", "PORT", "--ws"]
SERVERS: dict[str, list[str]] = {
    "uvicorn, websockets": [*UVICORN, "websockets"],
    "uvicorn, websockets-sansio": [*UVICORN, "websockets-sansio"],
    "uvicorn, wsproto": [*UVICORN, "wsproto"],
    "hypercorn": ["hypercorn", APP, "--bind", "127.0.0.1:PORT"],
    "daphne": ["daphne", "-b", "127.0.0.1", "-p", "PORT", APP],
    "granian": ["granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "PORT", APP],
}
# Seconds: less than `pause_timeout`; and after which what has not come is taken not to come.
LONG = 50.0
WAIT = 5.0
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@contextmanager
def waiting(name: str, path: str) -> Iterator[tuple[Server, socket.socket]]:
    """The server, and the client of a WebSocket that waits for its 101."""
    module = SERVERS[name][0]
    if reason := why_not(module) or ("wsproto" in name and why_not("wsproto")):
        pytest.skip(reason)
    port = free_port()
    command = [sys.executable, "-m", *(part.replace("PORT", str(port)) for part in SERVERS[name])]
    env = {"PYTHONUNBUFFERED": "1"}
    with launch(command, port, env=env) as server, socket.create_connection(("127.0.0.1", port), LONG) as client:
        client.sendall(HANDSHAKE.format(path=path).encode())
        assert comes_true(lambda: "WAITS" in server.log()), server.log()
        yield server, client


def comes_true(condition: Callable[[], bool], seconds: float = LONG) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def leave(server: Server, client: socket.socket, patience: float) -> bool:
    """Whether the app hears that its client leaves, and plugins as well."""
    client.close()
    if not comes_true(lambda: "HEARD" in server.log(), patience):
        return False
    return "on_request_headers" not in server.log() or comes_true(lambda: "on_delete(2)" in server.log())


def end(server: Server, _: socket.socket, patience: float) -> bool:
    """Whether the server ends when it is told to."""
    server.process.send_signal(signal.SIGTERM)
    return comes_true(lambda: server.process.poll() is not None, patience)


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("happens", [leave, end])
def test_as_bare(happens: Callable[[Server, socket.socket, float], bool], name: str) -> None:
    """Nobody waits for the pause to be given up, and no server complains more than for the bare app."""
    # There Hypercorn was seen not to end in time with the bare app either.
    is_chance = happens is end and name == "hypercorn" and sys.version_info >= (3, 15)
    # Granian tells nobody, and waits for its connections.
    may_not = name == "granian" or is_chance
    found = []
    for path in ("/bare", "/held"):
        with waiting(name, path) as (server, client):
            heard = happens(server, client, WAIT if may_not else LONG)
            time.sleep(0.2)
            complaints = [word for word in ("Traceback", "never retrieved", "destroyed") if word in server.log()]
            found.append((None if is_chance else heard, complaints))
    assert found[1] == found[0]
    assert is_chance or found[0][0] is (name != "granian")
