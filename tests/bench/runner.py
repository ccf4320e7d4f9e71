"""Fault injection by an external runner: a process of its own that a middleware asks over a unix socket.

Written for speed as one honestly would: frames with their length in front; uvloop on both sides; no more copies than
needed. It is asked in two ways. As APISIX asks its runners: one question at a time on a connection, of which as many
are kept as were needed at once, since a runner may ask back before it answers (`apisix/plugins/ext-plugin/init.lua`).
And as fast as it goes: one connection, many questions under way on it, answered in order, so that what waits together
is written and read together.

    frame     size of all that follows (u32), size of the head (u32), head, body
    question  head: method, target, then names and values, each ended by NUL
    answer    head: status, then names and values, each ended by NUL; an empty head lets the request pass
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections import deque
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send

_SIZES = struct.Struct("<II")
Frame = tuple[bytes, bytes]


def frame(head: bytes, body: bytes = b"") -> bytes:
    """The bytes of one question or answer."""
    return _SIZES.pack(4 + len(head) + len(body), len(head)) + head + body


class Frames:
    """Cuts a stream into frames."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Every frame that is whole now: its head and its body."""
        data = self._held + data if self._held else data
        at = 0
        while len(data) - at >= _SIZES.size:
            size, head = _SIZES.unpack_from(data, at)
            end = at + 4 + size
            if end > len(data):
                break
            middle = at + _SIZES.size + head
            yield data[at + _SIZES.size : middle], data[middle:end]
            at = end
        self._held = data[at:]


class RunnerMiddleware:
    """Asks the runner about each request, before the app sees it: on one connection, or on ``many``."""

    def __init__(self, app: ASGIApp, path: str, *, many: bool = False) -> None:
        self._app = app
        self._path = path
        self._many = many
        self._idle: list[_Connection] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        query = scope["query_string"]
        target = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
        fields = [scope["method"].encode(), target]
        for pair in scope["headers"]:
            fields += pair
        connection = self._idle.pop() if self._idle else await self._connect()
        asked = connection.ask(b"\0".join(fields))
        if not self._many:
            self._idle.append(connection)
        head, body = await asked
        if self._many:
            self._idle.append(connection)
        if not head:
            await self._app(scope, receive, send)
            return
        status, *answer = head.split(b"\0")
        headers = [*zip(answer[::2], answer[1::2], strict=True), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": int(status), "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _connect(self) -> _Connection:
        _, made = await asyncio.get_running_loop().create_unix_connection(_Connection, self._path)
        return made

    def close(self) -> None:
        """Leave the runner."""
        for connection in self._idle:
            connection.close()


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._frames = Frames()
        self._waiting: deque[asyncio.Future[Frame]] = deque()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        for answer in self._frames.feed(data):
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(answer)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def ask(self, head: bytes) -> asyncio.Future[Frame]:
        assert self._transport is not None
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._transport.write(frame(head))
        return future


class _Runner(asyncio.Protocol):
    """The runner's side: fault injection."""

    def __init__(self, conf: str) -> None:
        parsed = json.loads(conf)
        self._status, self._body = parsed["http_status"], parsed["body"].encode()
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(b"".join(self._answer(head) for head, _ in self._frames.feed(data)))

    def _answer(self, head: bytes) -> bytes:
        # As a runner for plugins would: it has the request apart before it asks its plugin.
        _method, _target, *fields = head.split(b"\0")
        dict(zip(fields[::2], fields[1::2], strict=True))
        answer = [b"%d" % self._status, b"x-wasm-plugin", b"fault_injection/runner", b"content-type", b"text/plain"]
        return frame(b"\0".join(answer), self._body)


async def serve(path: str, conf: str) -> None:
    """Answer at this unix socket until the process is ended."""
    server = await asyncio.get_running_loop().create_unix_server(lambda: _Runner(conf), path)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    # As uvicorn does: uvloop where it is installed.
    run = import_module("uvloop" if find_spec("uvloop") else "asyncio").run
    run(serve(sys.argv[1], sys.argv[2]))
