"""The app that every server and client of the matrix runs: once behind plugins, and once bare, below ``/bare``."""

from __future__ import annotations

import asyncio
import json
import logging

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from tests.serving import ROOT

PLUGINS = ROOT / "plugins"
SETTINGS = {
    "plugins": [
        # It logs, pauses and answers, as the request header x-lifecycle says.
        {"name": "lifecycle", "file": str(PLUGINS / "lifecycle/abi_0_2_1.wasm"), "priority": 9},
        {
            "name": "headers",
            "file": str(PLUGINS / "headers/rust.wasm"),
            "conf": {"request": {"add": {"x-user": "alice"}}, "response": {"add": {"x-plugin": "1"}}},
        },
        {"name": "body", "file": str(PLUGINS / "body/go.wasm")},
    ],
    "routes": [
        {"uri": "/changed", "plugins": {"body": {"conf": {"direction": "response", "text": " world"}}}},
        {"uri": "/chosen", "plugins": {"headers": {"conf": {"response": {"add": {"sec-websocket-protocol": "two"}}}}}},
    ],
}


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    """What the plugins stand in front of."""
    if scope["type"] == "websocket":
        await _socket(scope, receive, send)
    elif scope["type"] == "http":
        await _answer(scope["path"].removeprefix("/bare"), scope, receive, send)
    else:
        await _lifespan(receive, send)


async def _answer(path: str, scope: Scope, receive: Receive, send: Send) -> None:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    answer = {
        "/echo": body,
        "/headers": json.dumps([[name.decode(), value.decode()] for name, value in scope["headers"]]).encode(),
        "/204": b"",
    }.get(path, b"hello")
    status, headers = (204 if path == "/204" else 200), [(b"x-app", b"1"), (b"x-app", b"2")]
    pieces = [b"one", b"two", b""] if path == "/stream" else [answer]
    if path not in ("/stream", "/204"):
        headers.append((b"content-length", b"%d" % len(answer)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    *parts, last = pieces
    for piece in parts:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": last})
    if path == "/background":
        print("background work begins", flush=True)
        await asyncio.sleep(0.3)
        print("background work is done", flush=True)


async def _socket(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    path = scope["path"].removeprefix("/bare")
    if path in ("/refused", "/refused/pieces"):
        await _refuse(scope, send)
        return
    subprotocol = None if path == "/chosen" else "chat"
    await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": [(b"x-app", b"1")]})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def _refuse(scope: Scope, send: Send) -> None:
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close"})
        return
    headers = [(b"x-app", b"1"), (b"content-length", b"7"), (b"content-type", b"text/plain")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    *parts, last = [b"sign", b" in", b""] if scope["path"].endswith("/pieces") else [b"sign in"]
    for piece in parts:
        await send({"type": "websocket.http.response.body", "body": piece, "more_body": True})
    await send({"type": "websocket.http.response.body", "body": last})


async def _lifespan(receive: Receive, send: Send) -> None:
    message: Message = {}
    while message.get("type") != "lifespan.shutdown":
        message = await receive()
        await send({"type": f"{message['type']}.complete"})


def guarded() -> WasmMiddleware:
    """The app behind the plugins."""
    return WasmMiddleware(inner, settings=SETTINGS)


logging.basicConfig(level=logging.INFO)
_guarded = guarded()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """For a server: the bare app below ``/bare``, so that one process shows both."""
    bare = scope.get("path", "").startswith("/bare")
    await (inner if bare else _guarded)(scope, receive, send)
