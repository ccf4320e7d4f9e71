"""Routes and the middleware together: what a plugin rewrites, and WebSockets."""

from __future__ import annotations

import json
from typing import Any

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from tests.driving import answering, http_scope, request
from tests.plugins.conftest import PLUGINS

REWRITER = {"name": "rewriter", "file": PLUGINS / "headers" / "rust.wasm", "conf": json.dumps({"path": "/admin/x"})}
GUARD = {"name": "guard", "file": PLUGINS / "fault_injection" / "c.wasm"}
REFUSES: Any = {"guard": {"conf": {"http_status": 403, "body": "no"}}}


def wrapped(app: Any, uri: str) -> WasmMiddleware:
    settings = {"plugins": [REWRITER, GUARD], "routes": [{"uri": uri, "plugins": REFUSES}]}
    return WasmMiddleware(app, settings=settings)


async def test_a_plugin_that_rewrites_the_path_does_not_change_which_plugins_run() -> None:
    """As in Envoy, whose router looks at the path after all filters: a guard for whatever comes belongs on `/*`."""
    paths: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        await answering(b"app")(scope, receive, send)

    async with wrapped(app, "/admin/*") as middleware:
        assert (await request(middleware, path="/public")).body == b"app"
        assert (await request(middleware, path="/admin/y")).status == 403
    async with wrapped(app, "/*") as middleware:
        assert (await request(middleware, path="/public")).status == 403
    assert paths == ["/admin/x"]


async def test_a_websocket_is_routed_as_a_get_of_its_path() -> None:
    async def denied(path: str, **more: Any) -> bool:
        sent: list[Message] = []
        incoming: list[Message] = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]

        async def receive() -> Message:
            return incoming.pop(0)

        async def send(message: Message) -> None:
            sent.append(message)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "websocket.accept"})

        routes = [{"uri": "/admin/*", "methods": ["GET"], "plugins": REFUSES}]
        scope = {**http_scope(path=path), "type": "websocket", "subprotocols": [], **more}
        del scope["method"]
        async with WasmMiddleware(app, settings={"plugins": [GUARD], "routes": routes}) as middleware:
            await middleware(scope, receive, send)
        return bool(sent[0]["type"] == "websocket.close")

    assert await denied("/admin/x")
    assert await denied("//admin/./x")
    assert await denied("/api/admin/x", root_path="/api")
    assert not await denied("/public")
