"""Nothing keeps a server's connection when its request is over: some servers close one when nobody refers to it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import passing, pausing
from tests.driving import http_scope
from tests.guests import PAUSE, REQUEST_HEADERS, RESPONSE_HEADERS, Guest, Serve
from tests.plugins.conftest import PLUGINS

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
BODY: Message = {"type": "http.response.body", "body": b"ok", "more_body": False}


class Connection:
    """What a server keeps of one. Its client stays, unless it ``leaves``."""

    def __init__(self, leaves: bool) -> None:
        self.messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
        self.leaves = leaves

    async def receive(self) -> Message:
        if self.messages:
            return self.messages.pop()
        if not self.leaves:
            await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        pass


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    if scope["path"] == "/silent":
        return
    await send({**START})
    if scope["path"] == "/raises":
        raise ValueError("on purpose")
    await send({**BODY})


async def is_freed(middleware: ASGIApp, method: str, path: str, *, leaves: bool = False) -> bool:
    """Whether a request leaves its connection to nobody, without the garbage collector."""

    async def one() -> weakref.ref[Connection]:
        connection = Connection(leaves)
        try:
            await middleware(http_scope(method, path), connection.receive, connection.send)
        except ValueError:
            assert path == "/raises"
        return weakref.ref(connection)

    await one()
    gc.collect()
    gc.disable()
    try:
        kept = await one()
        await asyncio.sleep(0)
        return kept() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("plugins", [["headers/c"], ["probe/abi_0_2_1"], ["body/c"], ["headers/c", "body/c"]])
@pytest.mark.parametrize("path", ["/ok", "/raises", "/silent"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
async def test_compiled_plugins(plugins: list[str], path: str, method: str) -> None:
    # The watch over time looks at frames, and lets go of the last one when it rests.
    limits = {"callback_ms": 0, "slow_callback_ms": 0}
    entries = [
        {"name": f"p{index}", "file": PLUGINS / f"{plugin}.wasm", "limits": limits}
        for index, plugin in enumerate(plugins)
    ]
    async with WasmMiddleware(app, settings={"plugins": entries}) as middleware:
        assert await is_freed(middleware, method, path)


def denied(api: Hostcalls, *_: int) -> int:
    api.send_local_response(403, b"no")
    return PAUSE


def unsendable(api: Hostcalls, *_: int) -> int:
    api.replace_header_map_value(REQUEST_HEADERS, b":path", b"/ \r\n")
    return 0


def reframed(api: Hostcalls, *_: int) -> int:
    api.replace_header_map_value(RESPONSE_HEADERS, b":status", b"204")
    return 0


WAYS: dict[str, dict[str, Any]] = {
    "straight": {"on_request_headers": passing, "on_response_headers": passing},
    "bodies": {"on_request_body": passing, "on_response_body": passing},
    "denied": {"on_request_headers": denied},
    "denied late": {"on_response_headers": denied},
    "paused": {"on_request_headers": pausing},
    "paused late": {"on_response_body": pausing},
    "unsendable": {"on_request_headers": unsendable},
    "reframed": {"on_response_headers": reframed},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["/ok", "/raises", "/silent"])
async def test_ways_of_the_exchange(serve_guests: Serve, way: str, path: str) -> None:
    async with serve_guests(app, Guest(**WAYS[way]), pause_timeout=0.05) as middleware:
        assert await is_freed(middleware, "GET", path, leaves="paused" in way)
