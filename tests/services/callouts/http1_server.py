"""A server of HTTP/1.1 by hand, and a pool of connections to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from asgi_wasm.services.callouts.connector import Connector
from asgi_wasm.services.callouts.messages import (
    Answer,
    Request,
)
from asgi_wasm.services.callouts.pool import Pool
from asgi_wasm.services.callouts.turns import Turns
from tests.driving import listening

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
POISON = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
Writer = asyncio.StreamWriter
# From the path of a request to what is done about it.
Serve = Callable[[bytes, Writer], Awaitable[None]]


class Calls:
    """A pool to a server that does as a test says with each request, whose body it does not read."""

    def __init__(self, serve: Serve) -> None:
        self.connections = 0
        self.closed = 0
        self.asked: list[bytes] = []
        self._serve = serve
        self._server = AsyncExitStack()

    async def __aenter__(self) -> Calls:
        self.port = await self._server.enter_async_context(listening(self._one))
        self.pool = Pool(Connector("127.0.0.1", self.port, None), Turns())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.close()
        await self._server.aclose()

    async def _one(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked.append(head.split()[1])
                await self._serve(self.asked[-1], writer)
        except asyncio.LimitOverrunError:
            # What came is a body, which this server does not read.
            pass
        finally:
            self.closed += 1
            writer.close()

    async def get(self, path: str = "/", method: bytes = b"GET", body: bytes = b"", limit: int = 1 << 20) -> bytes:
        """The body of the answer."""
        headers = [(b"host", b"up.test"), *([(b"content-length", b"%d" % len(body))] if body else [])]
        answer = Answer(limit)
        await self.pool.exchange(Request(method, path.encode(), headers, body), answer)
        assert answer.headers is not None
        return bytes(answer.body)


def saying(reply: bytes, later: bytes = b"", event: asyncio.Event | None = None) -> Serve:
    """``reply`` to /first, and ``later`` after an event; to anything else OK."""

    async def serve(path: bytes, writer: Writer) -> None:
        writer.write(reply if path == b"/first" else OK)
        if path == b"/first" and event is not None:
            await event.wait()
            writer.write(later)

    return serve
