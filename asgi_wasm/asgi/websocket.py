"""A WebSocket handshake through the plugins. Frames pass untouched.

The upgrade's request headers run through the request callbacks; what the app answers to them (accept, or denial) runs
through the response callbacks. Specification: ASGI `specs/www.rst`, "WebSocket" and "Websocket Denial Response".
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi import translate
from asgi_wasm.asgi.exchange import Environment, guarded_scope
from asgi_wasm.asgi.properties import ScopeAttributes
from asgi_wasm.asgi.sides import RequestSide, ResponseSide
from asgi_wasm.host.filter_chain import FilterChain
from asgi_wasm.host.header_map import HeaderMap

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Message, Receive, Scope, Send
    from asgi_wasm.host.plugin import Filter

_DENIAL_EXTENSION = "websocket.http.response"
_SWITCHING_PROTOCOLS, _FORBIDDEN = 101, 403


class WebSocketHandshake:
    """Runs one WebSocket connection; the plugins see its handshake."""

    def __init__(
        self, environment: Environment, filters: Sequence[Filter], scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._environment = environment
        self._filters = filters
        # Plugins see the GET that the handshake is; ASGI's websocket scope has no method.
        self._server_scope: dict[str, Any] = {**scope, "method": "GET"}
        self._server_receive = receive
        self._server_send = send
        self._change = asyncio.Event()
        self._to_app = RequestSide(self._change.set)
        self._to_client = ResponseSide(self._change.set, lambda _names: None, trailers=False)
        attributes = ScopeAttributes(self._server_scope)
        self._chain = FilterChain(
            filters,
            self._to_app,
            self._to_client,
            attributes,
            environment.limits,
            environment.log,
            environment.host_metrics,
        )
        attributes.chain = self._chain
        self._connect: Message | None = None
        self._gone = False
        # Accepted or denied: from here on every message passes.
        self._settled = False

    async def run(self, scope: Scope) -> None:
        """Serve the connection to its end."""
        try:
            headers = translate.request_headers(self._server_scope)
            self._chain.request.headers(headers, False)
            await self._until(lambda: self._to_app.forwarded or self._chain.answered_locally)
            if self._chain.answered_locally:
                await self._deny()
            elif not self._gone:
                own = guarded_scope(self._server_scope, self._filters, self._chain.properties)
                translate.apply_request_headers(own, headers)
                if "method" not in scope:
                    del own["method"]
                await self._environment.app(own, self._receive, self._send)
        finally:
            self._chain.finish()

    # --- the app

    async def _receive(self) -> Message:
        if self._connect is not None:
            message, self._connect = self._connect, None
            return message
        return await self._server_receive()

    async def _send(self, message: Message) -> None:
        if self._settled:
            if not self._chain.answered_locally:
                await self._server_send(message)
            return
        kind = message["type"]
        if kind == "websocket.accept":
            await self._respond(message, _SWITCHING_PROTOCOLS)
        elif kind == "websocket.close":
            await self._respond(message, _FORBIDDEN)
        elif kind == "websocket.http.response.start":
            await self._respond(message, message["status"])
        else:
            await self._server_send(message)

    async def _respond(self, message: Message, status: int) -> None:
        """Show the app's answer to the plugins, then send it as they left it."""
        headers = HeaderMap([(b":status", b"%d" % status), *translate.header_pairs(message)])
        self._chain.respond(headers, message["type"] == "websocket.close")
        await self._until(lambda: bool(self._to_client.messages) or self._chain.answered_locally)
        self._settled = True
        if self._chain.answered_locally:
            await self._deny()
        elif not self._gone:
            final = dict(message)
            if message["type"] != "websocket.close":
                final["headers"] = self._to_client.messages.popleft()["headers"]
            if message["type"] == "websocket.http.response.start":
                final["status"] = translate.status_of(headers)
            await self._server_send(final)

    # --- the client

    async def _until(self, condition: Any) -> None:
        """Await a condition that something outside makes true, or the client's going."""
        while not condition() and not self._gone:
            self._change.clear()
            changed = asyncio.ensure_future(self._change.wait())
            reading: asyncio.Future[Message] | None = None
            waiting: set[asyncio.Future[Any]] = {changed}
            if self._connect is None and not self._to_app.forwarded:
                reading = asyncio.ensure_future(self._server_receive())
                waiting.add(reading)
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            if reading is not None:
                await self._heard(reading)

    async def _heard(self, reading: asyncio.Future[Message]) -> None:
        if not reading.done():
            # `receive` may be cancelled: nothing is lost, the server keeps what it has not given out.
            reading.cancel()
            return
        message = reading.result()
        if message["type"] == "websocket.connect":
            self._connect = message
        else:
            self._gone = True

    async def _deny(self) -> None:
        """Deny the handshake with the plugins' answer where the server can, else by closing, which it shows as 403."""
        self._settled = True
        if self._connect is None and not self._to_app.forwarded:
            await self._server_receive()
        if _DENIAL_EXTENSION in (self._server_scope.get("extensions") or {}):
            for message in self._to_client.messages:
                await self._server_send({**message, "type": f"websocket.{message['type']}"})
        else:
            await self._server_send({"type": "websocket.close", "code": 1008, "reason": ""})
