"""A WebSocket handshake through the plugins. Frames pass untouched.

The upgrade's request headers run through the request callbacks; what the app answers to them (accept, or denial) runs
through the response callbacks. Specification: ASGI `specs/www.rst`, "WebSocket" and "Websocket Denial Response".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi import translate
from asgi_wasm.asgi.environment import Environment, give_up, guarded_scope, headers_dropped, make_chain
from asgi_wasm.asgi.properties import ScopeAttributes
from asgi_wasm.asgi.sides import RequestSide, ResponseSide
from asgi_wasm.host.header_map import ResponseHeaderMap

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Message, Receive, Scope, Send
    from asgi_wasm.host.plugin import Filter

_DENIAL_EXTENSION = "websocket.http.response"
_SWITCHING_PROTOCOLS, _FORBIDDEN = 101, 403
# Close codes of RFC 6455 7.4.1.
_POLICY_VIOLATION, _INTERNAL_ERROR = 1008, 1011


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
        self._to_app = RequestSide(self._changed)
        self._to_client = ResponseSide("GET", self._changed, self._headers_dropped, trailers=False)
        self._attributes = ScopeAttributes(self._server_scope)
        self._chain = make_chain(environment, filters, self._to_app, self._to_client, self._attributes)
        # What the client said before the app asked: its connect, and perhaps that it has gone.
        self._heard: deque[Message] = deque()
        self._reading: asyncio.Future[Message] | None = None
        self._gone = False
        # Accepted or denied: from here on every message passes, unless plugins gave the answer.
        self._settled = False
        self._answered_by_plugins = False
        self._closing: asyncio.Future[None] | None = None

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
                dropped = translate.apply_request_headers(own, headers)
                if dropped:
                    self._headers_dropped(dropped)
                if "method" not in scope:
                    del own["method"]
                await self._environment.app(own, self._receive, self._send)
        finally:
            self._attributes.finished = True
            self._chain.finish()
            for waiting in (self._reading, self._closing):
                if waiting is not None and not waiting.done():
                    waiting.cancel()
                    await asyncio.wait([waiting])

    # --- the app

    async def _receive(self) -> Message:
        if self._heard:
            return self._heard.popleft()
        if self._reading is None:
            return await self._server_receive()
        await asyncio.wait([self._reading])
        reading, self._reading = self._reading, None
        return reading.result()

    async def _send(self, message: Message) -> None:
        if self._answered_by_plugins:
            if message["type"] == "websocket.send":
                # As to a client that has gone: an endless stream would otherwise never be told to end.
                raise OSError("a plugin has ended the connection")
            return
        kind = message["type"]
        if self._settled:
            await self._server_send(message)
        elif kind == "websocket.accept":
            await self._respond(message, _SWITCHING_PROTOCOLS)
        elif kind == "websocket.close":
            await self._respond(message, _FORBIDDEN)
        elif kind == "websocket.http.response.start":
            await self._respond(message, message["status"])
        else:
            await self._server_send(message)

    async def _respond(self, message: Message, status: int) -> None:
        """Show the app's answer to the plugins, then send it as they left it."""
        headers = ResponseHeaderMap([(b":status", b"%d" % status), *translate.header_pairs(message)])
        self._chain.respond(headers, message["type"] == "websocket.close")
        await self._until(lambda: bool(self._to_client.messages) or self._chain.answered_locally)
        if self._chain.answered_locally:
            await self._deny()
        elif not self._gone:
            final = dict(message)
            if message["type"] != "websocket.close":
                final["headers"] = self._to_client.messages.popleft()["headers"]
            if message["type"] == "websocket.http.response.start":
                final["status"] = translate.status_of(headers)
            self._settled = True
            await self._server_send(final)

    # --- the client

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Await a condition that something outside makes true, or the client's going; a pause is given up in time."""
        while not condition() and not self._gone:
            self._change.clear()
            changed = asyncio.ensure_future(self._change.wait())
            if self._reading is None and not self._to_app.forwarded:
                self._reading = asyncio.ensure_future(self._server_receive())
            waiting: set[asyncio.Future[Any]] = {changed} if self._reading is None else {changed, self._reading}
            timeout = self._environment.pause_timeout
            try:
                done, _ = await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
            if self._reading is not None and self._reading.done():
                reading, self._reading = self._reading, None
                self._hear(reading.result())
            elif not done:
                give_up(self._environment, self._chain)

    def _hear(self, message: Message) -> None:
        self._heard.append(message)
        self._gone = message["type"] == "websocket.disconnect"

    async def _deny(self) -> None:
        """Deny the handshake with the plugins' answer where the server can, else by closing, which it shows as 403."""
        self._answered_by_plugins = True
        await self._until(lambda: self._to_client.complete or self._to_client.reset_reason is not None)
        if not (self._to_app.forwarded or self._heard):
            self._hear(await self._server_receive())
        if self._gone:
            return
        if self._to_client.complete and _DENIAL_EXTENSION in (self._server_scope.get("extensions") or {}):
            for message in self._to_client.messages:
                await self._server_send({**message, "type": f"websocket.{message['type']}"})
        else:
            await self._server_send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": ""})

    def _changed(self) -> None:
        self._change.set()
        if self._settled and self._chain.answered_locally and not self._answered_by_plugins:
            # Too late to deny: all that can be done is to end it.
            self._answered_by_plugins = True
            close = self._server_send({"type": "websocket.close", "code": _INTERNAL_ERROR, "reason": ""})
            self._closing = asyncio.ensure_future(close)

    def _headers_dropped(self, names: list[bytes]) -> None:
        headers_dropped(self._environment, self._filters, names)
