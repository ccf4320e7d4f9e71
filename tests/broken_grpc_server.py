"""A gRPC server that misbehaves, by raw HTTP/2: the method that is called says how (`/t/METHOD-ARGUMENT`)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, PingAckReceived, RequestReceived, StreamReset
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings
from hpack import Encoder

from tests.broken_grpc_answers import FLOODS, MODES, Answer, Pairs


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
    pongs: int = 0
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
        # What is to be done in a while.
        self.still_to_do = 0
        self.is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not to be asserted: uvloop's is none of asyncio's.
        self.transport: asyncio.Transport = cast("asyncio.Transport", transport)
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
            elif isinstance(event, PingAckReceived):
                self.server.pongs += 1
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

    def ping(self) -> None:
        """The client answers when it has read what was written before: then `BrokenServer.pongs` is one more."""
        self.h2.ping(bytes(8))
        self.flush()

    def flush(self) -> None:
        if not self.is_over:
            self.transport.write(self.h2.data_to_send())


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
