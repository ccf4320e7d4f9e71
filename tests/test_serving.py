"""The helper that serves the other tests."""

from __future__ import annotations

import errno
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.serving import ask_until_all_workers_answer, free_port, serve

APP = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    print("asked", flush=True)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})
"""


def test_serves_and_stops(tmp_path: Path) -> None:
    (tmp_path / "trivial.py").write_text(APP)
    with serve("trivial:app", cwd=tmp_path) as server:
        assert httpx.get(server.url).status_code == 204
        assert server.logs("asked")
    with pytest.raises(httpx.TransportError):
        httpx.get(server.url)


def test_server_that_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Could not import module"), serve("absent:app", cwd=tmp_path):
        pass


# The first worker answers; the second is not up before that one has answered twenty times.
LATE = """
import asyncio, os
from pathlib import Path

asked = 0

async def app(scope, receive, send):
    global asked
    if scope["type"] == "lifespan":
        await receive()
        try:
            Path("first").touch(exist_ok=False)
        except FileExistsError:
            while not Path("asked").exists():
                await asyncio.sleep(0.01)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return await send({"type": "lifespan.shutdown.complete"})
    asked += 1
    if asked == 20:
        Path("asked").touch()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""


def test_asks_until_a_late_worker_has_answered(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    with serve("late:app", "--workers", "2", cwd=tmp_path) as server:
        answered = ask_until_all_workers_answer(server.url, 2, lambda answer: answer.text, told=server.log)
    assert len(answered) == 2 and sum(answered.values()) > 20


TALKING = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    for line in range(20_000):
        print(f"line {line}", flush=True)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})
"""


def test_log_that_is_read_while_it_is_written(tmp_path: Path) -> None:
    """The reader moves no position that the server writes at: no line is written over another."""
    (tmp_path / "talking.py").write_text(TALKING)
    with serve("talking:app", cwd=tmp_path) as server, ThreadPoolExecutor() as threads:
        answer = threads.submit(httpx.get, server.url, timeout=60)
        while not answer.done():
            server.log()
        lines = [line for line in server.log().splitlines() if line.startswith("line ")]
    assert lines == [f"line {line}" for line in range(20_000)]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port is free at a moment, and not held")
def test_a_free_port_is_held_until_its_server_listens() -> None:
    """Neither a client nor somebody who wants any port gets it, and a connection to it is no connection to itself."""
    port = free_port()
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)) as client:
        assert client.getpeername()[1] == port
