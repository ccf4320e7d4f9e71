"""What goes over a limit again and again: an app behind a plugin, and what one request of it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp, Message
from asgi_wasm.testing import Hostcalls, TestMiddleware
from asgi_wasm.testing.guests.guests import Callback
from tests.driving import answering, http_scope, until
from tests.guests import Guest

UNACCOUNTED = ("proxy_on_context_create", "proxy_on_log", "proxy_on_delete")


@dataclass
class Seen:
    """How often the limit was met, as the plugin or the client of this case can tell."""

    times: int = 0


@dataclass(frozen=True)
class Case:
    """``ask`` does one turn, and adds to what was seen. ``share``: of all turns that are wanted, where one is slow.

    ``answer`` is what the upstream named "upstream" says to everything; without it nobody listens there.
    """

    name: str
    limits: Mapping[str, int]
    plugin: Mapping[str, Callback] | bytes
    ask: Callable[[WasmMiddleware, Seen], Awaitable[None]]
    seen: Seen = field(default_factory=Seen)
    share: float = 1.0
    app: ASGIApp = field(default_factory=answering)
    settings: Mapping[str, Any] = field(default_factory=dict)
    entry: Mapping[str, Any] = field(default_factory=dict)
    answer: bytes = b""

    @asynccontextmanager
    async def served(self) -> AsyncIterator[WasmMiddleware]:
        """The app, started."""
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            file: Path | Guest = folder / "p.wasm"
            if isinstance(self.plugin, bytes):
                (folder / "p.wasm").write_bytes(self.plugin)
            else:
                file = Forgetful(**self.plugin)
            stack.enter_context(_unheard())
            port = await stack.enter_async_context(_answering(self.answer)) if self.answer else 1
            settings = {
                "plugins": [{"name": "p", "file": file, **self.entry}],
                "cache_dir": folder / "cache",
                "limits": self.limits,
                "upstreams": {"upstream": f"http://127.0.0.1:{port}"},
                **self.settings,
            }
            yield await stack.enter_async_context(TestMiddleware(self.app, settings=settings))


class Forgetful(Guest):
    """A guest that keeps no account, and takes back what a callback has allocated."""

    def __init__(self, **own: Callback) -> None:
        super().__init__(**{name: _giving_back(callback) for name, callback in own.items()})

    def __call__(self, host: Any) -> Any:
        return {name: export for name, export in super().__call__(host).items() if name not in UNACCOUNTED}


async def status_of(app: ASGIApp, body: bytes = b"") -> int:
    """Of one request. It takes no timer, since asyncio keeps those that are over for a while."""
    incoming: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    statuses: list[int] = []
    over = asyncio.Event()

    async def receive() -> Message:
        if incoming:
            return incoming.pop()
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        elif not message.get("more_body", False):
            over.set()

    await app(http_scope("POST", headers=[(b"content-length", b"%d" % len(body))]), receive, send)
    # Nothing else would let the event loop throw away what is over.
    await asyncio.sleep(0)
    return statuses[0]


async def at_rest(app: WasmMiddleware) -> None:
    """Until no request runs, and no plugin waits for an answer."""
    assert app._worker is not None
    await until(app._worker.is_idle)


@asynccontextmanager
async def _answering(answer: bytes) -> AsyncIterator[int]:
    """The port of a server that says this to every head."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextmanager
def _unheard() -> Iterator[None]:
    """The log is written, for nobody."""
    logger = logging.getLogger("asgi_wasm")
    before, nobody = (logger.level, logger.propagate), logging.NullHandler()
    logger.addHandler(nobody)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(nobody)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def _giving_back(callback: Callback) -> Callback:
    def called(api: Hostcalls, *arguments: int) -> Any:
        before = api.host._free
        try:
            return callback(api, *arguments)
        finally:
            api.host._free = before

    return called
