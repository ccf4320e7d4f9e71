"""An app that uvicorn serves behind real plugins, and what is asked of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import websockets

from tests.serving import ROOT, Server
from tests.waiting import SECONDS

PLUGINS = ROOT / "plugins"

APP = """
import asyncio, json, logging, os
from asgi_wasm import WasmMiddleware

logging.basicConfig(level=logging.INFO)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan here")
    if scope["type"] == "websocket":
        await receive()
        if scope["path"] == "/denied":
            await send({"type": "websocket.close", "code": 4000})
            return
        await send({"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x-app", b"1")]})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    path = scope["path"]
    if path == "/raises":
        raise ValueError("before")
    status = int(path[1:]) if path[1:].isdigit() else 200
    headers = [(b"content-length", b"5")] if path == "/sized" else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if path == "/raises-late":
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise ValueError("after")
    if path == "/echo":
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})
            if not more:
                return
    if path == "/scope":
        told = {key: str(scope[key]) for key in ("method", "path", "raw_path", "query_string", "scheme")}
        told["headers"] = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})
    elif path == "/large":
        for _ in range(40):
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
        await send({"type": "http.response.body"})
    elif path == "/returns":
        return
    elif path.startswith(("/204", "/304")):
        await send({"type": "http.response.body"})
    else:
        await send({"type": "http.response.body", "body": b"hello"})

app = WasmMiddleware(app, settings=os.environ["SETTINGS"])
"""


def write(folder: Path, *plugins: dict[str, Any], **more: Any) -> dict[str, str]:
    """The app and its settings; the environment that names them."""
    (folder / "served.py").write_text(APP)
    (folder / "settings.yaml").write_text(json.dumps({"plugins": plugins, **more}))
    return {"SETTINGS": str(folder / "settings.yaml"), "PYTHONASYNCIODEBUG": "0"}


def plugin(file: str, **more: Any) -> dict[str, Any]:
    return {"name": file.partition("/")[0], "file": str(PLUGINS / f"{file}.wasm"), **more}


def assert_contexts_ended(server: Server) -> None:
    """As many stream contexts were deleted as were created."""
    deadline = time.monotonic() + SECONDS
    while True:
        log = server.log()
        created = [line for line in log.splitlines() if "on_context_create(" in line and not line.endswith(", 0)")]
        if log.count("on_delete(") == len(created):
            break
        assert time.monotonic() < deadline, log
        time.sleep(0.02)
    assert created


async def talk(server: Server, path: str = "/", **headers: str) -> tuple[Any, str]:
    url = f"ws://127.0.0.1:{server.port}{path}"
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with websockets.connect(url, additional_headers=names, subprotocols=[websockets.Subprotocol("chat")]) as it:
        await it.send("hello")
        return it, str(await it.recv())
