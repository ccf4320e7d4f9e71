"""The ASGI app that answers Prometheus's scrapes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from asgi_wasm.errors import AsgiWasmError

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Receive, Scope, Send

# Of an Accept header and whether gzip is welcome: headers and body of the answer. Raises `AsgiWasmError`.
Expose = Callable[[str, bool], Awaitable["tuple[list[tuple[bytes, bytes]], bytes]"]]
_PLAIN = (b"content-type", b"text/plain; charset=utf-8")


class MetricsApp:
    """An ASGI app with the metrics of plugins and host, to be mounted: ``app.mount("/metrics", metrics_app)``.

    Answers GET and HEAD, in the text format or OpenMetrics as the Accept header asks, in gzip where it is welcome.
    """

    def __init__(self, expose: Expose) -> None:
        self._expose = expose

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. A WebSocket is refused, and a lifespan is not taken part in."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            status, headers, body = await self._answer(scope)
            headers = [*headers, (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
        else:
            raise NotImplementedError(f"the metrics app knows no {scope['type']}")

    async def _answer(self, scope: Scope) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        if scope["method"] not in ("GET", "HEAD"):
            return 405, [_PLAIN, (b"allow", b"GET, HEAD")], b"Method Not Allowed"
        try:
            headers, body = await self._expose(_header(scope, b"accept"), _accepts_gzip(scope))
        except AsgiWasmError as error:
            return 503, [_PLAIN], str(error).encode()
        return 200, headers, body


def _header(scope: Scope, wanted: bytes) -> str:
    return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted)


def _accepts_gzip(scope: Scope) -> bool:
    """Whether Accept-Encoding names gzip, and not as something unwanted."""
    for item in _header(scope, b"accept-encoding").lower().split(","):
        coding, _, weight = item.replace(" ", "").partition(";")
        if coding == "gzip":
            return weight.rstrip("0.") != "q="
    return False
