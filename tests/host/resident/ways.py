"""The ways to run a plugin that must not differ, and requests that are played in each of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from tests.driving import http_scope
from tests.plugins.conftest import PLUGINS
from tests.wasm_exports import without_exports

# Ways to run a plugin that must not differ: Python alone, the kernel, and the kernel entered by machine code.
WAYS: list[dict[str, Any]] = [
    {"resident": "off"},
    {"resident": "auto", "accelerator": "off"},
    {"resident": "auto", "accelerator": "auto"},
]
HEADERS = [
    (b"host", b"h"),
    (b"x-a", b"1"),
    (b"x-a", b"2"),
    (b"accept", b"*/*"),
    (b"connection", b"close"),
    (b"cookie", b"c"),
]
PROBE = PLUGINS / "probe" / "abi_0_2_1.wasm"
# What sees bodies leaves the kernels with the response.
BODIES = [f"proxy_on_{way}_{part}" for way in ("request", "response") for part in ("body", "trailers")]


def probe_without(file: Path, names: list[str]) -> Path:
    """The probe without these callbacks, written there."""
    file.write_bytes(without_exports(PROBE.read_bytes(), names))
    return file


Body = tuple["bytes | None", "list[bytes | bytearray]"]
HELLO: Body = (None, [b"hello"])


def announced(sent: Body | None) -> list[tuple[bytes, bytes]]:
    """What the head says of a request's body."""
    if sent is None:
        return []
    return [(b"transfer-encoding", b"chunked") if sent[0] is None else (b"content-length", sent[0])]


@contextmanager
def heard(hear: Callable[[str], None]) -> Iterator[None]:
    """Hand over each line that plugins log meanwhile."""
    handler = logging.Handler()
    handler.emit = lambda record: hear(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("asgi_wasm.plugin")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def client_of(pieces: Sequence[bytes | bytearray]) -> Receive:
    """Sends a body, and stays until it has its answer."""
    left = list(pieces) or [b""]

    async def receive() -> Message:
        if not left:
            await asyncio.get_running_loop().create_future()
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    return receive


class TwoRequests:
    """The second within the first, by the app: all that app and client see of them. The inner one has no body."""

    def __init__(self, body: Body, shape: tuple[str, int, str] = ("GET", 200, "1.1"), sent: Body | None = None) -> None:
        self._length, self._pieces = body
        self._method, self._status, self._version = shape
        self._sent = sent
        self.seen: list[Any] = []

    async def play(self, middleware: ASGIApp, folder: str = "") -> None:
        """Below that path."""
        self._middleware, self._folder = middleware, folder
        headers = [*HEADERS, *announced(self._sent)]
        scope = http_scope(self._method, f"{folder}/outer", headers=headers, http_version=self._version)
        await middleware(scope, client_of([] if self._sent is None else self._sent[1]), self._keep)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append({**scope, "asgi_wasm": dict(scope["asgi_wasm"])})
        outer = scope["path"].endswith("/outer")
        if outer:
            inner = http_scope("PUT", f"{self._folder}/inner", headers=[(b"host", b"i"), (b"x-a", b"3")])
            await self._middleware(inner, client_of([]), self._keep)
            await self._read_all(receive)
        sized = [] if self._length is None else [(b"content-length", self._length)]
        headers = [(b"x-a", b"1"), (b"vary", b"a"), (b"x-b", scope["path"].encode()), *sized]
        status = self._status if outer else 200
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for index, piece in enumerate(self._pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": index + 1 < len(self._pieces)})

    async def _read_all(self, receive: Receive) -> None:
        """Only where the client says that there is a body."""
        more = self._sent is not None
        while more:
            message = await receive()
            self.seen.append(dict(message))
            more = message.get("more_body", False)

    async def _keep(self, message: Message) -> None:
        self.seen.append(message)


async def run_once(
    script: str,
    way: dict[str, Any],
    count: int,
    probe: Path = PROBE,
    body: Body = HELLO,
    shape: tuple[str, int, str] = ("GET", 200, "1.1"),
    sent: Body | None = None,
    more: dict[str, Any] | None = None,
) -> tuple[list[Any], list[str]]:
    """Two requests through ``count`` probes: all that app and client saw, and what the plugins logged.

    ``shape``: the outer one's method, what status the app gives it, and its version of HTTP. It may have a body.
    ``more`` settings of each plugin may be given.
    """
    told = {"file": probe, "conf": script, **(more or {})}
    plugins = [{"name": f"p{index}", "vm_id": str(index), **told} for index in range(count)]
    requests = TwoRequests(body, shape, sent)
    lines: list[str] = []
    middleware = WasmMiddleware(requests.app, settings={"plugins": plugins, "pause_timeout": 0.01, **way})
    with heard(lines.append):
        async with middleware:
            await requests.play(middleware)
    return requests.seen, lines
