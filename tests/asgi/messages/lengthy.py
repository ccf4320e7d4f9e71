"""Bodies of announced lengths, and plugins that change them."""

from __future__ import annotations

from typing import Any

from asgi_wasm.asgi.types import ASGIApp
from tests.driving import Response, request
from tests.guests import Guest, Serve

LENGTH = b"content-length"


async def ask(serve_guests: Serve, app: ASGIApp, *guests: Guest, method: str = "GET", **more: Any) -> Response:
    async with serve_guests(app, *guests) as middleware:
        return await request(middleware, method, **more)


SIZED = [(LENGTH, b"6")]
EXTENSIONS: dict[str, Any] = {
    name: {} for name in ("http.response.pathsend", "http.response.zerocopysend", "http.response.trailers")
}
