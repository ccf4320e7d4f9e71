"""The apps that plugins are measured around, and what puts a plugin or its twin around them.

A `Setup` says all of it, so that a server in a process of its own can be told by one environment variable.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from tests.bench import native
from tests.bench.runner import RunnerMiddleware

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
VARIABLE = "ASGI_WASM_BENCH_SETUP"
FAULT = json.dumps({"http_status": 200, "body": "hello world"})

PIECE = b"x" * 8192
STREAM_PIECES = 1000
_BODIES = {"64 kB": b"x" * 65_536, "8 MB": b"x" * 8_388_608}
_TEXT = [(b"content-type", b"text/plain")]


@dataclass(frozen=True)
class Plugin:
    """One entry of the plugin list; ``file`` is below `plugins/`, or the path of a module made for this run."""

    file: str
    conf: str = ""
    root_id: str = ""

    @property
    def path(self) -> Path:
        return PLUGINS / self.file


HEADERS = Plugin("headers/c.wasm")
BODY_READ = Plugin("body/c.wasm")
BODY_CHANGED = Plugin("body/c.wasm", "change")


def fault(language: str) -> Plugin:
    """Fault injection, which answers every request."""
    root_id = "fault_injection" if language == "assemblyscript" else ""
    return Plugin(f"fault_injection/{language}.wasm", FAULT, root_id)


@dataclass(frozen=True)
class Setup:
    """An app and what is around it: at most one of ``plugins``, ``twin``, ``runner`` and ``apisix`` (sockets' paths).

    ``many``: each question has a connection to the runner for itself.
    """

    app: str = "bare"
    plugins: tuple[Plugin, ...] = ()
    twin: str = ""
    runner: str = ""
    many: bool = False
    apisix: str = ""
    # Further settings, such as `accelerator`.
    settings: Mapping[str, Any] | None = None
    cache_dir: str = ""

    def environment(self) -> dict[str, str]:
        """What tells `served` of it."""
        return {VARIABLE: json.dumps(asdict(self))}

    def build(self) -> ASGIApp:
        """The app with all that is around it."""
        app = APPS[self.app]()
        if self.plugins:
            return self._with_plugins(app)
        if self.runner:
            return RunnerMiddleware(app, self.runner, many=self.many)
        if self.apisix:
            from tests.bench.apisix import ApisixRunnerMiddleware

            return ApisixRunnerMiddleware(app, self.apisix)
        return native.TWINS[self.twin](app) if self.twin else app

    def _with_plugins(self, app: ASGIApp) -> WasmMiddleware:
        count = len(self.plugins)
        plugins = [
            {
                "name": f"plugin-{index}",
                "priority": count - index,
                "file": plugin.path,
                "conf": plugin.conf,
                "root_id": plugin.root_id,
                # Each in a VM of its own, as different plugins are.
                "vm_id": f"vm-{index}",
            }
            for index, plugin in enumerate(self.plugins)
        ]
        settings = {**(self.settings or {}), "plugins": plugins}
        if self.cache_dir:
            settings["cache_dir"] = self.cache_dir
        return WasmMiddleware(app, settings=settings)


def read_setup(text: str) -> Setup:
    """The inverse of `Setup.environment`'s value."""
    told = json.loads(text)
    return Setup(**{**told, "plugins": tuple(Plugin(**plugin) for plugin in told["plugins"])})


def served() -> ASGIApp:
    """The factory that a server is given."""
    return read_setup(os.environ[VARIABLE]).build()


# --- apps


async def _read_all(receive: Receive) -> int:
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return size


async def _answer(send: Send, body: bytes) -> None:
    headers = [*_TEXT, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _stream(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _TEXT})
    for _ in range(STREAM_PIECES):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at once, or by the path: `/upload` reads the body, `/64 kB` and `/8 MB` send one, `/stream` streams, and
    `/held` waits until the client goes.
    """
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    path = scope["path"]
    if path == "/upload":
        await _answer(send, b"%d" % await _read_all(receive))
    elif path == "/stream":
        await _stream(send)
    elif path == "/held":
        while (await receive())["type"] != "http.disconnect":
            pass
    else:
        await _answer(send, _BODIES.get(path[1:], b"hello"))


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message: Message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _starlette() -> ASGIApp:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def hello(_: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    return Starlette(routes=[Route("/", hello)])


def _fastapi() -> ASGIApp:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    async def hello() -> dict[str, str]:
        return {"message": "hello"}

    return app


APPS: dict[str, Callable[[], ASGIApp]] = {"bare": lambda: _bare, "starlette": _starlette, "fastapi": _fastapi}
