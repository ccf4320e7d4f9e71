"""An app that keeps what it sees, and requests to it with the accelerator or without."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send
from tests.extras import NO_ACCELERATOR
from tests.plugins.conftest import PLUGINS

HEADERS = PLUGINS / "headers" / "c.wasm"
needs_accelerator = pytest.mark.skipif(NO_ACCELERATOR != "", reason=NO_ACCELERATOR)
ROOT = Path(__file__).parents[2]


class App:
    """Answers with a head of any kind, after it has read the body if it ``reads``, and keeps what it saw."""

    def __init__(self, head: Any = ((b"x-a", b"1"),), *, reads: bool = False) -> None:
        self.head = head
        self.reads = reads
        self.seen: list[Any] = []
        self.requests: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests.append(send)
        self.seen.append({**scope, "asgi_wasm": dict(scope["asgi_wasm"])})
        scope["route"] = "added"
        while self.reads and (await receive()).get("more_body", False):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": self.head})
        await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def running(app: ASGIApp, accelerator: str, **plugin: Any) -> AsyncIterator[WasmMiddleware]:
    middleware = WasmMiddleware(
        app, settings={"plugins": [{"name": "p", "file": HEADERS, **plugin}], "accelerator": accelerator}
    )
    async with middleware:
        yield middleware


async def exchange(middleware: WasmMiddleware, scope: Scope, pieces: Iterable[bytes] = ()) -> list[Any]:
    """Of one request, all that the client gets, or what the app's server gets raised."""
    got: list[Any] = []
    left = iter(pieces)

    async def receive() -> Any:
        piece = next(left, b"")
        return {"type": "http.request", "body": piece, "more_body": piece != b""}

    async def send(message: Any) -> None:
        got.append(
            {**message, "headers": [tuple(pair) for pair in message["headers"]]} if "headers" in message else message
        )

    try:
        await middleware(scope, receive, send)
    except Exception as error:
        got.append((type(error).__name__, str(error)))
    got.append(scope.get("route"))
    return got
