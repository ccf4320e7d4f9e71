"""Clients that mean harm, over real sockets to uvicorn, behind a plugin that writes hostile things into heads."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import h11
import httpx

from tests.serving import ROOT, Server, serve

SECONDS = 20.0
# What a plugin may try to put into a head so that it ends early, or says two things about its length.
EVIL = [
    "1\r\nx-evil: 1",
    "1\nx-evil: 1",
    "1\rx-evil: 1",
    "1\r\n\r\nHTTP/1.1 200 OK\r\nx-evil: 1",
    "\0x-evil",
    "a\u2028b",
    " folded\r\n\tmore",
    "x" * 5000,
]
NAMES = [
    "x-a",
    "x-a\r\nx-evil",
    "x evil",
    "x-evil:",
    "content-length",
    "transfer-encoding",
    "connection",
    "",
    "x\nevil",
]
APP = """
import asyncio, json
from asgi_wasm import WasmMiddleware

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            break
    if scope["path"] == "/state":
        await asyncio.sleep(0.05)
        # This request itself has a context in each VM.
        body = b"%d" % (max(plugin.streams for plugin in middleware.status().plugins) - 1)
    else:
        body = b"%d" % size
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for piece in (body, b""):
        await send({"type": "http.response.body", "body": piece, "more_body": bool(piece)})

middleware = WasmMiddleware(app, settings="settings.json.yaml")
app = middleware
"""


@contextmanager
def served(folder: Path, chance: random.Random) -> Iterator[Server]:
    """A server whose plugin adds what chance says to each request and response."""
    added = {way: {chance.choice(NAMES): chance.choice(EVIL) for _ in range(4)} for way in ("request", "response")}
    conf = json.dumps({way: {"add": fields} for way, fields in added.items()})
    settings = {
        "plugins": [
            {"name": "headers", "file": str(ROOT / "plugins/headers/rust.wasm"), "conf": conf},
            {"name": "body", "file": str(ROOT / "plugins/body/c.wasm"), "conf": "change"},
        ],
        "cache_dir": str(folder / "cache"),
        "pause_timeout": 5,
    }
    (folder / "settings.json.yaml").write_text(json.dumps(settings))
    (folder / "hostile_app.py").write_text(APP)
    with serve("hostile_app:app", "--no-access-log", "--timeout-keep-alive", "5", cwd=folder) as server:
        yield server


# What is sent


def plain(chance: random.Random) -> bytes:
    """A request like any other."""
    body = b"x" * chance.choice([0, 1, 100, 5000])
    return b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (chance.randrange(9), len(body)) + body


def chunked(chance: random.Random) -> bytes:
    """One in pieces."""
    pieces = b"".join(b"%x\r\n" % size + b"y" * size + b"\r\n" for size in chance.choices([1, 3, 4000], k=3))
    return b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"


def smuggling(chance: random.Random) -> bytes:
    """One whose end readers disagree about."""
    inner = b"GET /smuggled HTTP/1.1\r\nHost: b\r\n\r\n"
    heads = [
        b"Content-Length: %d\r\nTransfer-Encoding: chunked" % len(inner),
        b"Content-Length: 0\r\nContent-Length: %d" % len(inner),
        b"Transfer-Encoding: xchunked\r\nContent-Length: 3",
        b"Transfer-Encoding : chunked",
        b"Content-Length: +3",
        b"Content-Length: 3, 3",
        b"X: 1\r\n Content-Length: 3",
    ]
    return b"POST / HTTP/1.1\r\nHost: a\r\n" + chance.choice(heads) + b"\r\n\r\n0\r\n\r\n" + inner


def garbage(chance: random.Random) -> bytes:
    """A request with some bytes changed, or none at all."""
    data = bytearray(plain(chance))
    for _ in range(chance.randrange(1, 9)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data) if chance.random() < 0.8 else chance.randbytes(200)


REQUESTS: list[Callable[[random.Random], bytes]] = [plain, plain, chunked, smuggling, garbage]

# How it is sent


@dataclass(frozen=True)
class Client:
    """One connection: so many bytes at a time, gone after so many, its side closed or not, and how much it reads."""

    data: bytes
    piece: int
    sent: int
    half_closes: bool
    read: int

    def run(self, port: int) -> bytes:
        """What came back."""
        got = b""
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
            for start in range(0, self.sent, self.piece):
                connection.sendall(self.data[start : min(start + self.piece, self.sent)])
            if self.half_closes:
                connection.shutdown(socket.SHUT_WR)
            # What waits for more has it closed: there is no answer yet to read.
            if self.sent < len(self.data) and not self.half_closes:
                return got
            connection.settimeout(1.0)
            while len(got) < self.read and (piece := connection.recv(min(65536, self.read - len(got)))):
                got += piece
        return got


def client(chance: random.Random) -> Client:
    """Any."""
    data = chance.choice(REQUESTS)(chance)
    return Client(
        data,
        piece=chance.choice([1, 7, 1000, 100_000]) if len(data) < 1000 else chance.choice([97, 100_000]),
        sent=len(data) if chance.random() < 0.6 else chance.randrange(len(data)),
        half_closes=chance.random() < 0.3,
        read=chance.choice([0, 1, 50, 1 << 20, 1 << 20]),
    )


def check_answer(got: bytes) -> None:
    """Whole answers, as far as they came, with no field that a plugin smuggled in. Raises AssertionError."""
    assert b"\nx-evil" not in got.lower()
    assert b"\rx-evil" not in got.lower()
    if not got:
        return
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="POST", target="/", headers=[("host", "a"), ("content-length", "0")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(got)
    while True:
        event = reader.next_event()
        if isinstance(event, h11.EndOfMessage) or event in (h11.NEED_DATA, h11.PAUSED):
            return


def round_of(folder: Path, seed: int, clients: int) -> None:
    """One server, so many clients. Raises AssertionError when it is not well afterwards."""
    chance = random.Random(seed)
    with served(folder, chance) as server:
        for _ in range(clients):
            hostile = client(chance)
            got = hostile.run(server.port)
            if hostile.read > 1000:
                check_answer(got)
        with httpx.Client(base_url=server.url, timeout=SECONDS) as friend:
            assert friend.post("/", content=b"abc").status_code == 200
            for _ in range(200):
                left = friend.get("/state").text
                if left.rstrip("!").startswith("0"):
                    break
            else:
                raise AssertionError(f"{left} requests still have contexts")
        log = server.log()
    assert "Traceback" not in log and "Exception" not in log, log[-5000:]
