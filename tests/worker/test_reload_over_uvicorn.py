"""Reload in a real server with all kinds of requests under way: they end on the plugins that they began with."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.serving import ROOT, Server, free_port, launch
from tests.waiting import wait_until

SECONDS = 60.0
# Requests that are under way until the test lets them go: a streaming answer, an app that has not answered yet, and a
# request that a plugin paused for a call.
HELD = ["/streams", "/waits", "/paused"]

# Below `/_` without plugins: what the test tells it, and the upstream that the plugin asks.
APP = """
import asyncio, json, logging
from asgi_wasm import WasmMiddleware

logging.basicConfig(level="INFO", format="%(message)s")
release, begun = asyncio.Event(), []

async def answer(send, body):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

async def inner(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
    else:
        begun.append(scope["path"])
        if scope["path"] == "/waits":
            await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        seen = b",".join(value for name, value in scope["headers"] if name == b"x-seen")
        await send({"type": "http.response.body", "body": seen, "more_body": True})
        if scope["path"] == "/streams":
            await release.wait()
        await send({"type": "http.response.body", "body": b"."})

wasm = WasmMiddleware(inner, settings="wasm.json")

async def app(scope, receive, send):
    path = scope.get("path", "")
    if not path.startswith("/_"):
        return await wasm(scope, receive, send)
    if path == "/_reload":
        await wasm.reload()
    elif path == "/_release":
        release.set()
    elif path == "/_check":
        begun.append("/paused")
        await release.wait()
    await answer(send, json.dumps([wasm.status().draining, begun]).encode())
"""


class Site:
    """The server, its settings' file, and clients in threads."""

    def __init__(self, folder: Path, port: int, drain_timeout: float) -> None:
        self.server: Server
        self._file = folder / "wasm.json"
        self._port = port
        self._drain_timeout = drain_timeout
        self._threads = ThreadPoolExecutor(8)
        self.url = f"http://127.0.0.1:{port}"

    def write(self, version: str) -> None:
        """Settings of which the plugins mark what they see with the version."""
        script = (
            f'request_headers: add_header_map_value 0 "x-seen" "{version}"\n'
            f'response_headers: add_header_map_value 2 "x-version" "{version}"\n'
            f'done: log 2 "a stream of {version} is over"\n'
            f'root_done: log 2 "{version} is over"\n'
        )
        plugins = ROOT / "plugins"
        probe = {"name": "probe", "file": str(plugins / "probe/abi_0_2_1.wasm"), "conf": script}
        conf = {"upstream": "self", "path": "/_check", "timeout_ms": 60_000}
        auth = {"name": "auth", "file": str(plugins / "http_auth/rust.wasm")}
        settings = {
            "plugins": [probe, auth],
            "routes": [{"uri": "/paused", "plugins": {"auth": {"conf": conf}}}],
            "upstreams": {"self": self.url},
            "drain_timeout": self._drain_timeout,
        }
        hidden = self._file.with_suffix(".new")
        hidden.write_text(json.dumps(settings))
        hidden.replace(self._file)

    def ask(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=SECONDS)

    def soon(self, path: str) -> Future[httpx.Response]:
        return self._threads.submit(self.ask, path)

    def socket(self) -> ClientConnection:
        return connect(f"ws://127.0.0.1:{self._port}/socket", proxy=None)

    def begun(self) -> list[str]:
        return list(self.ask("/_state").json()[1])

    def draining(self) -> int:
        return int(self.ask("/_state").json()[0])

    def close(self) -> None:
        self._threads.shutdown()


@contextmanager
def site(folder: Path, *arguments: str, drain_timeout: float = SECONDS) -> Iterator[Site]:
    (folder / "served.py").write_text(APP)
    port = free_port()
    made = Site(folder, port, drain_timeout)
    made.write("a")
    command = [sys.executable, "-m", "uvicorn", "served:app", "--host", "127.0.0.1", "--port", str(port), *arguments]
    env = {"PYTHONUNBUFFERED": "1"}
    with ExitStack() as stack:
        stack.callback(made.close)
        made.server = stack.enter_context(launch(command, port, env=env, cwd=folder))
        yield made


def echo(there: ClientConnection, text: str) -> None:
    there.send(text)
    assert there.recv(SECONDS) == text


@contextmanager
def held(served: Site) -> Iterator[dict[str, Future[httpx.Response]]]:
    """A request of each kind, under way."""
    asked = {path: served.soon(path) for path in HELD}
    try:
        wait_until(lambda: set(HELD) <= set(served.begun()))
        yield asked
    finally:
        served.ask("/_release")


def ended(served: Site, version: str) -> bool:
    return f"\n{version} is over" in served.server.log()


def test_what_runs_ends_where_it_began(tmp_path: Path) -> None:
    """Two reloads at once: of the two sets that they replace, one has something to drain."""
    with site(tmp_path) as served, served.socket() as there:
        echo(there, "before")
        with held(served) as asked:
            served.write("b")
            for reload in [served.soon("/_reload") for _ in range(2)]:
                assert reload.result(SECONDS).status_code == 200
            late = served.ask("/")
            assert (late.text, late.headers["x-version"]) == ("b.", "b")
            echo(there, "while it drains")
            with served.socket() as other:
                echo(other, "new")
                assert other.response is not None
                assert other.response.headers["x-version"] == "b"
            assert (served.draining(), ended(served, "a"), ended(served, "b")) == (1, False, True)
        answers = {path: answer.result(SECONDS) for path, answer in asked.items()}
        told = {path: (got.status_code, got.text, got.headers["x-version"]) for path, got in answers.items()}
        assert told == dict.fromkeys(HELD, (200, "a.", "a"))
        # Now the WebSocket alone keeps them.
        time.sleep(0.2)
        echo(there, "still")
        assert (served.draining(), ended(served, "a")) == (1, False)
        there.close()
        wait_until(lambda: served.draining() == 0 and ended(served, "a"))
        log = served.server.log()
    assert log.count("\na stream of a is over\n") == len(HELD) + 1
    assert "Traceback" not in log


def test_the_drain_timeout_ends_what_does_not_end(tmp_path: Path) -> None:
    """Whatever a plugin that is gone had still to see gets its failure policy; a WebSocket's frames go on."""
    with site(tmp_path, drain_timeout=0.5) as served, served.socket() as there:
        with held(served) as asked:
            served.write("b")
            served.ask("/_reload")
            wait_until(lambda: served.draining() == 0 and ended(served, "a"))
            assert asked["/paused"].result(SECONDS).status_code == 503
            echo(there, "without plugins")
            assert served.ask("/").headers["x-version"] == "b"
        assert asked["/waits"].result(SECONDS).status_code == 503
        # Its head was out, so it is cut: the client must not take it for whole.
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            asked["/streams"].result(SECONDS)
        assert served.server.logs("a response was cut off")


def test_reloads_while_plugins_start(tmp_path: Path) -> None:
    """Without lifespan the first request starts them: it and two reloads come at once, and none is refused."""
    with site(tmp_path, "--lifespan", "off") as served:
        asked = [served.soon(path) for path in ("/", "/_reload", "/", "/_reload", "/")]
        answers = [answer.result(SECONDS) for answer in asked]
        assert [answer.status_code for answer in answers] == [200] * 5
        assert {answers[index].text for index in (0, 2, 4)} == {"a."}
        wait_until(lambda: served.draining() == 0)
        reloaded = "the plugins were reloaded"
        wait_until(lambda: served.server.log().count(reloaded) >= 2)
        assert served.server.log().count(reloaded) == 2
        assert "Traceback" not in served.server.log()
