"""The way to one gRPC upstream: connections that are made when they are needed, and calls that wait for one.

As in Envoy, there is a connection when a call needs one, and a try for whoever calls: a dead upstream is found again by
the first call after it is back, and costs nothing while nobody calls. At most one try runs at a time, and a failure is
everybody's who waited for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from asgi_wasm.logs import get_logger
from asgi_wasm.services.callouts.connector import Connector, connector_to
from asgi_wasm.services.callouts.grpc import status as grpc_status
from asgi_wasm.services.callouts.messages import ConnectTimeoutError
from asgi_wasm.services.callouts.slices import run_in_slices
from asgi_wasm.specs import UpstreamSpec
from asgi_wasm.waits import wait

if TYPE_CHECKING:
    from asgi_wasm.services.callouts.grpc.connection import Connection
    from asgi_wasm.services.callouts.grpc.conversation import Conversation

# Seconds that connections may take to be gone at the server's stop.
_CLOSE_SECONDS = 1.0
_ENDED_UNUSED = "the connection ended before it carried a call"

logger = get_logger("asgi_wasm.host")


class Channel:
    """Carries conversations to one upstream."""

    def __init__(self, upstream: UpstreamSpec) -> None:
        self._upstream = upstream
        self._connections: list[Connection] = []
        # With the seconds that each may take.
        self._waiting: dict[Conversation, float | None] = {}
        self._connecting: asyncio.Task[None] | None = None
        self._is_serving = False
        self._is_closed = False
        self._connector: Connector | None = None

    def open(self, conversation: Conversation, timeout: float | None) -> None:
        """Carry it as soon as there is a connection with room. ``timeout`` (seconds) is told to the server."""
        conversation.carrier = self
        self._waiting[conversation] = timeout
        self._serve_soon()

    def send(self, conversation: Conversation) -> None:
        """It waits: what it has to send it still has later."""

    def drop(self, conversation: Conversation) -> None:
        """It is over before it was carried."""
        self._waiting.pop(conversation, None)

    def _serve_soon(self) -> None:
        """Not at once: many are often asked for together, and a callback of a plugin may have just asked."""
        if self._waiting and not self._is_serving and not self._is_closed:
            self._is_serving = True
            asyncio.get_running_loop().call_soon(run_in_slices, self._serve())

    def _serve(self) -> Iterator[None]:
        try:
            while self._waiting:
                connection = next((each for each in self._connections if each.room > 0), None)
                if connection is None:
                    self._connect()
                    return
                self._carry(next(iter(self._waiting)), connection)
                yield
        finally:
            self._is_serving = False

    def _carry(self, conversation: Conversation, connection: Connection) -> None:
        from asgi_wasm.services.callouts.grpc.fields import request_fields

        timeout = self._waiting.pop(conversation)
        connection.open(conversation, request_fields(conversation.effect, self._upstream, timeout))

    def _connect(self) -> None:
        """Unless a connection is being made, or one carries nothing and has no room: another would have none either."""
        if self._connecting is None and not any(each.is_idle for each in self._connections):
            self._connecting = asyncio.get_running_loop().create_task(self._try_to_connect())

    async def _try_to_connect(self) -> None:
        reason = grpc_status.NO_CONNECTION
        try:
            connection = await self._dial()
        except Exception as error:
            # What cannot be reached, resolved, trusted or spoken to. Each has an error of its own.
            told = str(error) or type(error).__name__
            if isinstance(error, ConnectTimeoutError):
                reason = grpc_status.CONNECT_TIMEOUT
        else:
            if not connection.lost.done():
                self._connections.append(connection)
                self._serve_soon()
                return
            told, reason = _ENDED_UNUSED, grpc_status.TERMINATED
        finally:
            self._connecting = None
        self._fail(told, reason)

    def _fail(self, told: str, reason: bytes) -> None:
        """Nobody who waits is carried."""
        where = address(self._upstream.url)
        logger.info("gRPC upstream %r: failed to connect to %s: %s", self._upstream.name, where, told)
        waiting, self._waiting = self._waiting, {}
        run_in_slices(_break_off(waiting, reason))

    async def _dial(self) -> Connection:
        # On threads, because that takes a tenth of a second the first time.
        make = await asyncio.to_thread(_connection_type)
        if self._connector is None:
            self._connector = await asyncio.to_thread(connector_to, self._upstream, ["h2"])
        return await self._connector.connect(lambda: make(self._upstream.name, self._on_room, self._on_lost))

    def _on_room(self) -> None:
        idle = [each for each in self._connections if each.is_idle and each.room > 0]
        # One is kept for the next call; more were needed for a while.
        for connection in idle[1:]:
            if not self._waiting:
                connection.abort()
        self._serve_soon()

    def _on_lost(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            if connection.is_unused and self._waiting:
                # The server would end the next one too.
                self._fail(_ENDED_UNUSED, grpc_status.TERMINATED)
        self._serve_soon()

    async def close(self) -> None:
        """End the connections. What they carry must have been cancelled."""
        self._is_closed = True
        if self._connector is not None:
            self._connector.close()
        if self._connecting is not None:
            self._connecting.cancel()
            await wait([self._connecting])
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.abort()
        if connections:
            await wait([connection.lost for connection in connections], timeout=_CLOSE_SECONDS)


def _break_off(conversations: dict[Conversation, float | None], reason: bytes) -> Iterator[None]:
    for conversation in list(conversations):
        conversation.carrier = None
        conversation.break_off(reason, "connection_failure")
        yield


def _connection_type() -> type[Connection]:
    from asgi_wasm.services.callouts.grpc.connection import Connection

    return Connection


def address(url: str) -> str:
    """Host and port, for the log. The path is of no use to gRPC."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{f'[{host}]' if ':' in host else host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
