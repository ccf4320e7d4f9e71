"""An app that answers a WebSocket once its client has had time to leave: bare, or with its 101 held by a plugin."""

from __future__ import annotations

import asyncio
import logging

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from tests.servers.app import PLUGINS

SETTINGS = {
    "plugins": [
        {"name": "lifecycle", "file": str(PLUGINS / "lifecycle/abi_0_2_1.wasm")},
        {"name": "probe", "file": str(PLUGINS / "probe/abi_0_2_1.wasm"), "conf": "response_headers: return 1"},
    ]
}


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    """It says WAITS once it waits, or a plugin holds what it sent, and HEARD when it learns of the end."""
    if scope["type"] == "lifespan":
        message: Message = {}
        while message.get("type") != "lifespan.shutdown":
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
    else:
        await receive()
        asyncio.get_running_loop().call_later(0.1, lambda: print("WAITS", flush=True))
        if scope["path"] == "/bare":
            await receive()
            print("HEARD", flush=True)
            await send({"type": "websocket.accept"})
            return
        try:
            # Held: the client goes, or the server does, before it is done.
            await send({"type": "websocket.accept"})
            await receive()
        except OSError:
            # What a server's own `send` says of it (ASGI 2.4).
            pass
        print("HEARD", flush=True)


_guarded = WasmMiddleware(inner, settings=SETTINGS)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """For a server: below ``/bare`` without plugins."""
    await (inner if scope.get("path") == "/bare" else _guarded)(scope, receive, send)


logging.basicConfig(level=logging.INFO)
