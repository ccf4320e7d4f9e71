"""A server of HTTP/2, and calls to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, PingAckReceived, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings

from asgi_wasm.services.callouts.connector import Connector
from asgi_wasm.services.callouts.messages import (
    Answer,
    Request,
)
from asgi_wasm.services.callouts.pool import Pool
from asgi_wasm.services.callouts.shared_pool import SharedPool
from asgi_wasm.services.callouts.turns import Turns
from tests.waiting import until

OK = [(b":status", b"200")]


class Served(asyncio.Protocol):
    """One connection at the server; ``serve`` is called with each whole request: stream and path."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.h2 = H2Connection(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.paths: dict[int, bytes] = {}
        self.sizes: dict[int, int] = {}
        self.pongs = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections.append(self)
        values = {SettingCodes.MAX_CONCURRENT_STREAMS: self.server.max_streams}
        self.h2.local_settings = Settings(client=False, initial_values=values)
        self.h2.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived) and event.stream_id and event.headers:
                self.paths[event.stream_id] = path = dict(event.headers)[b":path"]
                if path.startswith(b"/early"):
                    self.server.serve(self, event.stream_id, path)
            elif isinstance(event, DataReceived) and self.paths[event.stream_id or 0].startswith(b"/early"):
                # Neither read, nor made room for.
                continue
            elif isinstance(event, DataReceived) and event.stream_id:
                self.sizes[event.stream_id] = self.sizes.get(event.stream_id, 0) + len(event.data or b"")
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            elif isinstance(event, StreamEnded) and event.stream_id:
                self.server.serve(self, event.stream_id, self.paths[event.stream_id])
            elif isinstance(event, StreamReset):
                self.server.resets.append(int(event.error_code or 0))
            elif isinstance(event, PingAckReceived):
                self.pongs += 1
        self.flush()

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())

    async def read(self) -> None:
        """Wait until the client has read what was written to it: it answers a ping in its turn."""
        before = self.pongs
        self.h2.ping(bytes(8))
        self.flush()
        await until(lambda: self.pongs > before)

    def answer(self, stream: int, body: bytes = b"ok", headers: list[tuple[bytes, bytes]] = OK) -> None:
        self.h2.send_headers(stream, headers)
        self.h2.send_data(stream, body, end_stream=True)
        self.flush()


class Server:
    def __init__(self, serve: Callable[[Served, int, bytes], None], max_streams: int = 100) -> None:
        self.serve = serve
        self.max_streams = max_streams
        self.connections: list[Served] = []
        self.resets: list[int] = []

    async def __aenter__(self) -> Server:
        self._server = await asyncio.get_running_loop().create_server(lambda: Served(self), "127.0.0.1", 0)
        self.pool = pool(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.close()
        self._server.close()
        for served in self.connections:
            served.transport.abort()
        await asyncio.sleep(0)

    async def get(self, path: str = "/", body: bytes = b"", limit: int = 1 << 24) -> bytes:
        return await call(self.pool, path, body, limit)


def pool(port: int) -> SharedPool:
    turns, connector = Turns(), Connector("127.0.0.1", port, None)
    return SharedPool(connector, Pool(connector, turns), turns)


async def call(shared: SharedPool, path: str = "/", body: bytes = b"", limit: int = 1 << 24) -> bytes:
    headers = [(b"host", b"up.test"), *([(b"content-length", b"%d" % len(body))] if body else [])]
    answer = Answer(limit)
    await shared.exchange(Request(b"POST" if body else b"GET", path.encode(), headers, body), answer)
    assert answer.headers is not None
    return bytes(answer.body)
