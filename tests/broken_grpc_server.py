"""A gRPC server that misbehaves, by raw HTTP/2: the method that is called says how (`/t/METHOD-ARGUMENT`)."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamReset
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings
from hpack import Encoder
from hyperframe.frame import GoAwayFrame

Pairs = list[tuple[bytes, bytes]]

OK: Pairs = [(b":status", b"200"), (b"content-type", b"application/grpc")]


def message(data: bytes, flag: int = 0, size: int | None = None) -> bytes:
    """A message with its prefix, which may lie."""
    return struct.pack(">BI", flag, len(data) if size is None else size) + data


HI = message(b"hi")


class _PlainEncoder(Encoder):
    """Huffman's code takes a second for a long value."""

    def encode(self, headers: Any, huffman: bool = False) -> bytes:
        return super().encode(headers, huffman=False)


@dataclass
class BrokenServer:
    """``asked`` are the fields of every request, ``got`` what it sent; ``connections`` counts those that were made."""

    port: int = 0
    connections: int = 0
    asked: list[Pairs] = field(default_factory=list)
    got: list[bytearray] = field(default_factory=list)
    reset: int = 0
    open: set[Connection] = field(default_factory=set)
    # Before a connection's first reply. None is what h2 says.
    most_streams: int | None = None
    # Whether it reads, and whether it ends each connection at once.
    is_deaf: bool = False
    hangs_up: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Connection(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, server: BrokenServer) -> None:
        config = H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=False,
        )
        self.server = server
        self.h2 = H2Connection(config)
        self.h2.encoder = _PlainEncoder()
        self.bodies: dict[int, bytearray] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not to be asserted: uvloop's is none of asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        self.server.connections += 1
        if self.server.hangs_up:
            self.transport.abort()
            return
        self.server.open.add(self)
        most = 10_000 if self.server.most_streams is None else self.server.most_streams
        values = {SettingCodes.MAX_CONCURRENT_STREAMS: most}
        self.h2.local_settings = Settings(client=False, initial_values=values)
        self.h2.initiate_connection()
        self.flush()
        if self.server.is_deaf:
            self.transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_over = True
        self.server.open.discard(self)
        for task in self.tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except H2Error:
            # What the client breaks is no failure of this server's.
            self.transport.abort()
            return
        for event in events:
            if isinstance(event, RequestReceived):
                self.on_request(event.stream_id or 0, [(bytes(k), bytes(v)) for k, v in event.headers or ()])
            elif isinstance(event, DataReceived):
                self.bodies[event.stream_id or 0] += event.data or b""
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
            elif isinstance(event, StreamReset):
                self.server.reset += 1
        self.flush()

    def on_request(self, stream: int, fields: Pairs) -> None:
        self.server.asked.append(fields)
        self.server.got.append(self.bodies.setdefault(stream, bytearray()))
        mode, _, argument = dict(fields)[b":path"].decode("latin-1").rpartition("/")[2].partition("-")
        if mode in FLOODS:
            task = asyncio.get_running_loop().create_task(self.flood(mode, Answer(self, stream), argument))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            # The client may have ended all in the same breath.
            with suppress(H2Error):
                MODES[mode](Answer(self, stream), argument)

    async def flood(self, mode: str, answer: Answer, argument: str) -> None:
        with suppress(H2Error):
            await FLOODS[mode](answer, argument)

    def flush(self) -> None:
        if not self.is_over:
            self.transport.write(self.h2.data_to_send())


@dataclass
class Answer:
    """What a mode does with its stream."""

    connection: Connection
    stream: int

    def head(self, *more: tuple[bytes, bytes], status: bytes = b"200", is_last: bool = False) -> Answer:
        """The answer's head."""
        fields = [(b":status", status), *OK[1:], *more]
        self.connection.h2.send_headers(self.stream, fields, end_stream=is_last)
        return self.sent()

    def data(self, data: bytes = HI, is_last: bool = False) -> Answer:
        """A piece of the answer."""
        self.connection.h2.send_data(self.stream, data, end_stream=is_last)
        return self.sent()

    def trailers(self, *fields: tuple[bytes, bytes]) -> Answer:
        """The end."""
        self.connection.h2.send_headers(self.stream, list(fields) or [(b"grpc-status", b"0")], end_stream=True)
        return self.sent()

    def reset(self, code: str) -> None:
        """Reset the stream."""
        self.connection.h2.reset_stream(self.stream, int(code))
        self.sent()

    def raw(self, data: bytes) -> Answer:
        """Any bytes."""
        self.connection.transport.write(data)
        return self

    def cut(self) -> None:
        """Close the connection."""
        self.connection.transport.close()

    def later(self, do: Callable[[], object]) -> None:
        """In a while, when the client has seen what came before, unless it has reset the stream."""

        def do_it() -> None:
            with suppress(H2Error):
                do()

        asyncio.get_running_loop().call_later(0.05, do_it)

    def sent(self) -> Answer:
        self.connection.flush()
        return self


def _goaway(answer: Answer, code: str) -> None:
    """Goodbye, and the connection is cut with the call in it."""
    answer.head().data()
    answer.raw(GoAwayFrame(0, last_stream_id=answer.stream, error_code=int(code)).serialize())
    answer.later(answer.cut)


def _graceful(answer: Answer, _: str) -> None:
    """Goodbye, but the call is served to its end."""
    answer.head().raw(GoAwayFrame(0, last_stream_id=answer.stream).serialize())
    answer.later(lambda: answer.data().trailers())


def _unserved(answer: Answer, _: str) -> None:
    """Goodbye: the call was not looked at."""
    answer.raw(GoAwayFrame(0, last_stream_id=0).serialize())


def _reset_after_message(answer: Answer, code: str) -> None:
    answer.head().data()
    answer.later(lambda: answer.reset(code))


def _cut_after_message(answer: Answer, _: str) -> None:
    answer.head().data()
    answer.later(answer.cut)


def _with(name: bytes) -> Callable[[Answer, str], object]:
    return lambda answer, value: answer.head((name, bytes.fromhex(value))).data().trailers()


MODES: dict[str, Callable[[Answer, str], object]] = {
    "ok": lambda answer, _: answer.head().data().trailers(),
    "mute": lambda answer, _: None,
    "head": lambda answer, _: answer.head(),
    "message": lambda answer, _: answer.head().data(),
    "twice": lambda answer, _: answer.head().data(message(b"one") + message(b"two")).trailers(),
    "many": lambda answer, count: answer.head().data(message(b"") * int(count)).trailers(),
    "empty": lambda answer, _: answer.head().data(message(b"")).trailers(),
    # Broken frames: a prefix that announces more, or less, than comes; a flag.
    "long": lambda answer, _: answer.head().data(message(b"hi", size=100)).trailers(),
    "short": lambda answer, _: answer.head().data(message(b"hello", size=2)).trailers(),
    "flag": lambda answer, flag: answer.head().data(message(b"hi", flag=int(flag))).trailers(),
    "huge": lambda answer, _: answer.head().data(message(b"hi", size=0xFFFF_FFFF)),
    # Statuses.
    "status": lambda answer, code: answer.head().data().trailers((b"grpc-status", code.encode())),
    "text": lambda answer, text: answer.head().trailers((b"grpc-status", b"7"), (b"grpc-message", bytes.fromhex(text))),
    "only": lambda answer, code: answer.head((b"grpc-status", code.encode()), is_last=True),
    "endless": lambda answer, _: answer.head().data(is_last=True),
    "http": lambda answer, status: answer.head(status=status.encode()).data(b"no", is_last=True),
    "bare": lambda answer, status: answer.head(status=status.encode(), is_last=True),
    # Resets and cuts: before the head, after it, and after a message.
    "early": lambda answer, code: answer.reset(code),
    "headed": lambda answer, code: answer.head().reset(code),
    "late": _reset_after_message,
    "cut": _cut_after_message,
    "abort": lambda answer, _: answer.connection.transport.abort(),
    "goaway": _goaway,
    "graceful": _graceful,
    "unserved": _unserved,
    "garbage": lambda answer, _: answer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    # Metadata.
    "value": _with(b"x-value"),
    "binary": _with(b"x-bin"),
    "last": lambda answer, value: (
        answer.head().data().trailers((b"grpc-status", b"0"), (b"x-last", bytes.fromhex(value)))
    ),
    "name": lambda answer, name: answer.head((bytes.fromhex(name), b"v")).data().trailers(),
    "wide": lambda answer, size: answer.head((b"x-wide", b"w" * int(size))).data().trailers(),
    "fields": lambda answer, count: answer.head(*[(b"x-%d" % i, b"v") for i in range(int(count))]).data().trailers(),
    "length": lambda answer, size: answer.head((b"content-length", size.encode())).data().trailers(),
}


async def _flood(answer: Answer, size: str) -> None:
    """Messages of this size without end, as fast as the client lets it."""
    answer.head()
    data = message(b"x" * int(size)) * max(1, 16_000 // (int(size) + 5))
    connection = answer.connection
    while not connection.is_over:
        window = connection.h2.local_flow_control_window(answer.stream)
        is_free = window >= len(data) and connection.transport.get_write_buffer_size() < 1 << 18
        if is_free:
            for start in range(0, len(data), 16_384):
                connection.h2.send_data(answer.stream, data[start : start + 16_384])
            connection.flush()
        await asyncio.sleep(0 if is_free else 0.001)


async def _unfinished(answer: Answer, size: str) -> None:
    """All of a message of this size but its last byte."""
    left = message(b"x" * int(size))[:-1]
    answer.head()
    while left and not answer.connection.is_over:
        room = min(answer.connection.h2.local_flow_control_window(answer.stream), 16_384)
        if room > 0:
            answer.data(left[:room])
            left = left[room:]
        await asyncio.sleep(0)


async def _pings(answer: Answer, count: str) -> None:
    """So many pings, and then an answer."""
    for _ in range(int(count)):
        answer.connection.h2.ping(b"12345678")
    await asyncio.sleep(0)
    answer.head().data().trailers()


async def _interim(answer: Answer, count: str) -> None:
    """So many interim answers before the answer."""
    for _ in range(int(count)):
        answer.connection.h2.send_headers(answer.stream, [(b":status", b"103")])
        await asyncio.sleep(0)
    answer.head().data().trailers()


async def _crumbs(answer: Answer, count: str) -> None:
    """A message of so many bytes, each in a frame of its own."""
    answer.head()
    for byte in message(b"x" * int(count)):
        answer.connection.h2.send_data(answer.stream, bytes([byte]))
    answer.sent().trailers()


FLOODS = {"flood": _flood, "unfinished": _unfinished, "pings": _pings, "interim": _interim, "crumbs": _crumbs}


@asynccontextmanager
async def broken_grpc_server(port: int = 0, **how: int | bool | None) -> AsyncIterator[BrokenServer]:
    """Serves `MODES` and `FLOODS`; ``how`` are attributes of `BrokenServer`."""
    server = BrokenServer()
    for name, value in how.items():
        setattr(server, name, value)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Connection(server), "127.0.0.1", port)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for connection in list(server.open):
            connection.transport.abort()
        await asyncio.sleep(0)
        await listener.wait_closed()


@contextmanager
def deaf_server() -> Iterator[int]:
    """A port where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        yield port
