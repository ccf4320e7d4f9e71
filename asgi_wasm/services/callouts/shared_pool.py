"""Connections of HTTP/2 to one upstream, each shared by many calls; by ALPN perhaps of HTTP/1.1."""

from __future__ import annotations

import asyncio
from typing import cast

from asgi_wasm.services.callouts.connector import CONNECT_TIMEOUT, Connection, Connector
from asgi_wasm.services.callouts.deadline import Deadline
from asgi_wasm.services.callouts.http1 import Http1Connection
from asgi_wasm.services.callouts.http2 import Http2Connection
from asgi_wasm.services.callouts.messages import Answer, CalloutError, ConnectionLostError, ConnectTimeoutError, Request
from asgi_wasm.services.callouts.pool import IDLE_SECONDS, SWEEP_SECONDS, Pool
from asgi_wasm.services.callouts.turns import Turns
from asgi_wasm.waits import wait

# Seconds for which a server that took HTTP/1.1 is not asked again.
_HTTP1_SECONDS = 60.0


class _Negotiating(Connection):
    """A new connection until it is known what the server speaks on it: HTTP/2, unless TLS says otherwise."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.chosen: Http1Connection | Http2Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the transport to a connection of the protocol that TLS has agreed on."""
        tls = transport.get_extra_info("ssl_object")
        speaks_http2 = tls is None or tls.selected_alpn_protocol() == "h2"
        self.chosen = Http2Connection(self._turns) if speaks_http2 else Http1Connection(self._turns)
        cast("asyncio.Transport", transport).set_protocol(self.chosen)
        self.chosen.connection_made(transport)

    def abort(self) -> None:
        """Close the connection at once, whoever uses it."""
        if self.chosen is not None:
            self.chosen.abort()


class SharedPool:
    """One connection is made at a time: the calls that wait for it share it, or its failure."""

    def __init__(self, connector: Connector, http1: Pool, turns: Turns) -> None:
        """``connector`` asks for HTTP/2; ``http1`` is for a server that does not take it."""
        self._connector = connector
        self._http1 = http1
        self._turns = turns
        self._shared: list[Http2Connection] = []
        self._connecting: asyncio.Task[Http2Connection | None] | None = None
        self._http1_until = 0.0
        self._sweeping: asyncio.TimerHandle | None = None

    async def exchange(self, request: Request, answer: Answer) -> None:
        """One call. Raises `CalloutError`."""
        connection = await self._find()
        await (self._http1 if connection is None else connection).exchange(request, answer)

    async def _find(self) -> Http2Connection | None:
        """A connection that has room; None where the server speaks HTTP/1.1."""
        loop = asyncio.get_running_loop()
        while loop.time() >= self._http1_until:
            for connection in self._shared:
                if connection.has_room:
                    return connection
            # One that has nothing to do and no room: on another, the server would take no call either.
            found = next((each for each in self._shared if each.is_idle and not each.is_over), None)
            if found is None:
                found = await self._made()
            else:
                await found.wait_for_room()
            if found is not None and found.is_over and found.is_unused:
                # Nor would it on the next.
                raise ConnectionLostError("the upstream ended the connection before a call")
        return None

    async def _made(self) -> Http2Connection | None:
        """A new connection, for all that ask meanwhile. Raises `CalloutError`."""
        task = self._connecting
        if task is None:
            task = self._connecting = asyncio.get_running_loop().create_task(self._connect())
            task.add_done_callback(self._connected)
        await wait([task])
        error = None if task.cancelled() else task.exception()
        if isinstance(error, CalloutError):
            # One of its own for each call: a traceback grows where an exception is raised twice.
            raise type(error)(*error.args)
        return task.result()

    def _connected(self, task: asyncio.Task[Http2Connection | None]) -> None:
        self._connecting = None
        if not task.cancelled():
            # Its failure is those calls' that wait; perhaps none does any more.
            task.exception()

    async def _connect(self) -> Http2Connection | None:
        """None where the server speaks HTTP/1.1. Raises `CalloutError`."""
        loop = asyncio.get_running_loop()
        self._shared = [connection for connection in self._shared if not connection.is_over]
        negotiated = await self._connector.connect(lambda: _Negotiating(self._turns))
        chosen = negotiated.chosen
        if isinstance(chosen, Http1Connection):
            self._http1_until = loop.time() + _HTTP1_SECONDS
            self._http1.add(chosen)
            return None
        assert chosen is not None
        try:
            with Deadline(CONNECT_TIMEOUT):
                await chosen.wait_until_ready()
        except asyncio.TimeoutError:
            chosen.abort()
            raise ConnectTimeoutError(f"no settings of HTTP/2 within {CONNECT_TIMEOUT:g} s") from None
        except BaseException:
            chosen.abort()
            raise
        chosen.idle_since = loop.time()
        self._shared.append(chosen)
        if self._sweeping is None:
            self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep)
        return chosen

    def _sweep(self) -> None:
        """Close what has been idle for too long."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - IDLE_SECONDS
        for connection in self._shared:
            if connection.is_idle and (connection.is_over or connection.idle_since <= oldest):
                connection.abort()
        self._shared = [connection for connection in self._shared if not (connection.is_over and connection.is_idle)]
        self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep) if self._shared else None

    async def close(self) -> None:
        """Close every connection."""
        self._connector.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        task = self._connecting
        if task is not None:
            task.cancel()
            await wait([task])
        for connection in self._shared:
            connection.abort()
        await self._http1.close()
