"""An upstream that answers every request, and prints its headers."""

from __future__ import annotations

from asgi_wasm.asgi.types import Receive, Scope, Send
from tests.driving import answering


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI app."""
    for name, value in scope.get("headers", ()):
        print(f"{name.decode()}: {value.decode()}", flush=True)
    if scope["type"] == "http":
        await answering(b"ok")(scope, receive, send)
