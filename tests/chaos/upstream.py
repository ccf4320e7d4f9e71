"""An upstream that misbehaves as the path says: ``python -m tests.chaos.upstream PORT``."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable

_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
_PIECES = 1000


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _forever(begin: bytes, data: bytes) -> AsyncIterator[bytes]:
    yield begin
    while True:
        yield data


async def _drip(begin: bytes, data: bytes) -> AsyncIterator[bytes]:
    yield begin
    while True:
        await asyncio.sleep(0.05)
        yield data


async def _nothing() -> AsyncIterator[bytes]:
    await asyncio.sleep(3600)
    yield b""


# Path to what is sent, and whether the connection is closed after it.
WAYS: dict[str, tuple[Callable[[], AsyncIterator[bytes]], bool]] = {
    "good": (lambda: _once(_OK), False),
    "mute": (_nothing, False),
    "hangs-up": (lambda: _once(b""), True),
    "no-http": (lambda: _once(b"\x15\x03\x01\0\x02\x02\x50"), True),
    "two-answers": (lambda: _once(_OK + _OK.replace(b"ok", b"no")), False),
    "cut-head": (lambda: _once(b"HTTP/1.1 200 OK\r\nx-a: "), True),
    "cut-body": (lambda: _once(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc"), True),
    "endless-head": (lambda: _forever(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n" * _PIECES), False),
    "endless-body": (lambda: _forever(_CHUNKED, b"10000\r\n" + bytes(65536) + b"\r\n"), False),
    "tiny-pieces": (lambda: _forever(_CHUNKED, b"1\r\nx\r\n" * _PIECES), False),
    "interim": (lambda: _forever(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * _PIECES), False),
    "endless-trailers": (lambda: _forever(_CHUNKED + b"0\r\n", b"x-a: b\r\n" * _PIECES), False),
    "dripping-head": (lambda: _drip(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n"), False),
    "dripping-body": (lambda: _drip(_CHUNKED, b"1\r\nx\r\n"), False),
    "large": (lambda: _once(b"HTTP/1.1 200 OK\r\ncontent-length: 30000000\r\n\r\n" + bytes(30_000_000)), False),
}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        closes = False
        while not closes:
            head = await reader.readuntil(b"\r\n\r\n")
            way, closes = WAYS[head.split()[1].decode().strip("/")]
            async for data in way():
                writer.write(data)
                await writer.drain()
    writer.close()


async def main(port: int) -> None:
    """Until it is killed."""
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=2048)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
