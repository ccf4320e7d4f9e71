"""Starlette behind a fault-injection plugin.

In the checkout's root: ``uvicorn sample_apps.starlette_app.main:app``.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wasm import WasmMiddleware

logging.basicConfig(level=logging.INFO)


async def untouched(request: Request) -> JSONResponse:
    """No plugin runs here."""
    return JSONResponse({"from": "the app"})


async def events(request: Request) -> StreamingResponse:
    """Server-sent events: each one leaves as it is made."""

    async def count() -> AsyncIterator[str]:
        for number in range(3):
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.2)

    return StreamingResponse(count(), media_type="text/event-stream")


async def echo(socket: WebSocket) -> None:
    """Plugins see the handshake; frames pass."""
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


app = Starlette(routes=[Route("/app", untouched), Route("/events", events), WebSocketRoute("/echo", echo)])
app.add_middleware(WasmMiddleware, settings=Path(__file__).with_name("asgi-wasm.yaml"))
