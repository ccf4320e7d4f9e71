"""A WebSocket handshake through the plugins. Frames pass untouched.

The upgrade's request headers run through the request callbacks; what the app answers to them (accept, or denial) runs
through the response callbacks. Specification: ASGI `specs/www.rst`, "WebSocket" and "Websocket Denial Response".
"""

from __future__ import annotations

import asyncio
import weakref
from functools import partial
from typing import TYPE_CHECKING

from asgi_wasm.asgi.exchange import states
from asgi_wasm.asgi.exchange.endings import has_left, headers_dropped, tell_cut, tell_raised
from asgi_wasm.asgi.exchange.environment import Environment, make_chain
from asgi_wasm.asgi.exchange.sides import RequestSide, ResponseSide
from asgi_wasm.asgi.exchange.states import FROM_APP, HANDSHAKE, Answer, HandshakeState, Part, ResponseState
from asgi_wasm.asgi.messages import rewriting, translate
from asgi_wasm.asgi.own_scope import guarded_scope
from asgi_wasm.asgi.properties import ScopeAttributes, properties_of
from asgi_wasm.asgi.websocket import accept
from asgi_wasm.asgi.websocket.listening import Listening
from asgi_wasm.host.streams.header_map import HeaderMap, ResponseHeaderMap
from asgi_wasm.host.streams.local_reply import UNSENDABLE_TARGET

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Message, Receive, Scope, Send
    from asgi_wasm.host.plan import Plan

_ACCEPT, _CLOSE, _SEND = "websocket.accept", "websocket.close", "websocket.send"
_DISCONNECT = "websocket.disconnect"
_DENIAL_START, _DENIAL_BODY = "websocket.http.response.start", "websocket.http.response.body"
_DENIAL_EXTENSION = "websocket.http.response"
# Close codes of RFC 6455 7.4.1; the last is never sent, and stands for a connection that ended without one.
_POLICY_VIOLATION, _INTERNAL_ERROR, _ABNORMAL = 1008, 1011, 1006


class _LeftError(OSError):
    """What a frame gets whose client is not there any more (ASGI 2.4): an endless stream is told to end."""


class WebSocketHandshake:
    """Runs one WebSocket connection; the plugins see its handshake."""

    def __init__(self, environment: Environment, plan: Plan, scope: Scope, receive: Receive, send: Send) -> None:
        self._environment = environment
        self._plan = plan
        self._server_scope = accept.as_get(scope)
        self._server_receive = receive
        self._server_send = send
        self._headers_dropped = partial(headers_dropped, environment, plan.filters)
        # The far ends call back weakly: a cycle would keep the server's connection until the garbage collector comes.
        changed = partial(type(self)._changed, weakref.proxy(self))
        self._to_app = RequestSide(changed, lambda _: None)
        dropped, version = self._headers_dropped, scope.get("http_version") or "1.1"
        self._to_client = to_client = ResponseSide("GET", changed, dropped, trailers=False, version=version)
        self._attributes = ScopeAttributes(self._server_scope)
        self._attributes.bytes_sent = lambda: to_client.bytes_out
        self._chain = make_chain(environment, plan.filters, self._to_app, self._to_client, self._attributes)
        self._chain.properties = properties_of(scope)
        self._client = Listening(environment, self._chain, receive)
        self._state = HandshakeState.OPEN
        # One answer at a time: a plugin may hold one while another task of the app sends.
        self._answering = asyncio.Lock()
        # The app's accept or close, and the headers that plugins see of it, until they have passed.
        self._answer: tuple[Message, HeaderMap, HeaderMap] | None = None
        # How far the response is by which the app denies.
        self._denial = ResponseState.IDLE
        self._closing: asyncio.Future[None] | None = None

    async def run(self, scope: Scope) -> None:
        """Serve the connection to its end. Raises what the app raises, unless a plugin has answered already."""
        try:
            headers = translate.request_headers(self._server_scope)
            self._chain.request.headers(headers, False)
            await self._client.until(lambda: self._to_app.forwarded or self._chain.answered_locally)
            if self._chain.answered_locally:
                await self._deny()
            elif not self._client.gone:
                await self._call_app(scope, headers)
        finally:
            self._finish()
            await self._client.close(self._closing)

    def _finish(self) -> None:
        """End the stream for the plugins: once, when the connection is over, whatever the app does afterwards."""
        if self._attributes.finished:
            return
        for context in self._chain.contexts[:1]:
            # The app may call `receive` and `send` from anywhere.
            context.vm.check_thread()
        self._attributes.finished = True
        if has_left(self._client.gone, self._state in states.ANSWERED_BY_APP or self._to_client.complete):
            self._chain.leave()
        self._chain.finish()

    # --- the app

    async def _call_app(self, scope: Scope, headers: HeaderMap) -> None:
        if headers.changed and not rewriting.is_target_sendable(headers):
            self._chain.refuse(UNSENDABLE_TARGET)
            await self._deny()
            return
        own = guarded_scope(self._server_scope, self._plan, self._chain.properties)
        if dropped := rewriting.apply_request_headers(own, headers):
            self._headers_dropped(dropped)
        if headers.changed:
            accept.write_offered(own, translate.request_headers(self._server_scope))
        if "method" not in scope:
            del own["method"]
        try:
            await self._environment.app(own, self._receive, self._send)
            await self._conclude()
        except _LeftError:
            # The app did not take notice; servers make nothing of their own error of this kind either.
            pass
        except Exception as error:
            await self._conclude()
            if self._state not in states.ENDED_BY_PLUGINS:
                raise
            tell_raised(error)

    async def _conclude(self) -> None:
        """Send, once the app has ended, what it has sent and a plugin still holds: its own call was cancelled."""
        async with self._answering:
            if self._answer is not None:
                await self._settle(*self._answer)
            elif self._denial is ResponseState.DONE and not self._attributes.finished:
                await self._end_denial()

    async def _receive(self) -> Message:
        """The app's `receive`."""
        client = self._client
        while True:
            if self._state in states.ENDED_BY_PLUGINS:
                return {"type": _DISCONNECT, "code": _ABNORMAL, "reason": ""}
            if client.heard:
                message = client.heard.popleft()
                break
            if client.reading is None and (self._state is HandshakeState.SETTLED or client.gone):
                message = await self._server_receive()
                break
            await client.step()
        if message["type"] == _DISCONNECT:
            self._finish()
        return message

    async def _send(self, message: Message) -> None:
        """The app's `send`."""
        if self._state is HandshakeState.SETTLED:
            await self._server_send(message)
            if message["type"] == _CLOSE:
                self._finish()
            return
        async with self._answering:
            if self._answer is not None:
                # Its own call was cancelled while a plugin held it.
                await self._settle(*self._answer)
            is_ended = self._state in states.ENDED_BY_PLUGINS
            if is_ended or (self._client.gone and self._state not in states.ANSWERED_BY_APP):
                if message["type"] == _SEND or message.get("more_body", False):
                    raise _LeftError("nobody is there any more: a plugin has ended the connection, or the client has")
                if not (is_ended or self._denial is not ResponseState.IDLE):
                    # To nobody; servers complain of an app that ends without an answer.
                    await self._server_send(message)
            elif self._state in states.ANSWERED_BY_APP:
                await self._server_send(message)
            else:
                await self._respond(message)

    async def _respond(self, message: Message) -> None:
        """Show the app's answer to the plugins, then send it as they left it."""
        kind = message["type"]
        if kind == _ACCEPT and message.get("headers"):
            # ASGI allows any iterable, also one that can be read only once.
            message = {**message, "headers": translate.header_pairs(message)}
        if self._denial is ResponseState.BODY:
            if kind != _DENIAL_BODY:
                # The server cannot tell: the start may still be held back.
                raise RuntimeError(f"Expected ASGI message {_DENIAL_BODY!r}, but got {kind!r}.")
            await self._deny_by_app(message)
        elif self._denial is ResponseState.DONE:
            await self._end_denial()
            await self._server_send(message)
        elif kind == _DENIAL_START:
            self._state, self._denial = HANDSHAKE[self._state, Answer.DENIAL], FROM_APP[self._denial, Part.HEAD]
            headers = translate.response_headers(message)
            self._to_client.begin(message, headers, may_change=self._plan.changes_body.response)
            self._chain.respond(headers, translate.response_ends_with_headers("GET", headers))
            await self._flush()
        elif kind in (_ACCEPT, _CLOSE):
            accepts = kind == _ACCEPT
            headers = accept.accept_headers(message) if accepts else ResponseHeaderMap([(b":status", b"403")])
            self._state = HANDSHAKE[self._state, Answer.BY_APP]
            self._answer = message, HeaderMap(list(headers.pairs)), headers
            # What follows an accept is no body that a head could wait for.
            self._to_client.begin({"type": "http.response.start", "status": 101}, headers, may_change=False)
            self._chain.respond(headers, not accepts)
            await self._settle(*self._answer)
        else:
            await self._server_send(message)

    async def _settle(self, message: Message, original: HeaderMap, headers: HeaderMap) -> None:
        """Send the accept or close once the plugins have let it pass; deny when they do not."""
        await self._client.until(lambda: bool(self._to_client.messages) or self._chain.answered_locally)
        self._answer = None
        if self._chain.answered_locally:
            await self._deny()
        elif self._client.gone:
            # As above.
            self._state = HANDSHAKE[self._state, Answer.TO_NOBODY]
            await self._server_send(message)
        else:
            final: Message = message
            if message["type"] == _ACCEPT:
                fields = self._to_client.messages.popleft()["headers"]
                offers = accept.offered(self._server_scope)
                final, dropped = accept.accept_message(message, original, fields, offers)
                # No plugin can make an accept another status: what is logged is what was sent.
                headers.put(b":status", b"101")
                if dropped:
                    self._headers_dropped(dropped)
            self._state = HANDSHAKE[self._state, Answer.PASSES]
            await self._server_send(final)
            if final["type"] == _CLOSE:
                self._finish()

    # --- denials

    async def _deny_by_app(self, message: Message) -> None:
        """A piece of the response by which the app denies."""
        data, more = bytes(message.get("body", b"")), message.get("more_body", False)
        self._denial = FROM_APP[self._denial, Part.PIECE if more else Part.END]
        response = self._chain.response
        if response is not None and not (response.closed or self._to_client.complete) and (data or not more):
            response.data(data, not more)
        await self._flush()
        if not more:
            await self._end_denial()
            return
        await self._client.until(lambda: response is None or response.closed or response.wants_data)
        await self._flush()

    async def _end_denial(self) -> None:
        """Send what the app has sent of its denial, which is all, once the plugins have let it pass."""
        if self._attributes.finished:
            return
        client, chain = self._to_client, self._chain
        await self._client.until(lambda: client.complete or chain.answered_locally or client.reset_reason is not None)
        if not chain.answered_locally:
            tell_cut(self._environment, client)
        await self._flush()
        self._finish()

    async def _flush(self) -> None:
        """Send what the plugins let pass of the app's denial, or their own answer in its place."""
        if self._chain.answered_locally and self._state not in states.ENDED_BY_PLUGINS:
            await self._deny()
        while self._to_client.messages and not self._client.gone:
            await self._send_denial(self._to_client.messages.popleft())

    async def _send_denial(self, message: Message) -> None:
        await self._server_send({**message, "type": f"websocket.{message['type']}"})

    async def _deny(self) -> None:
        """Deny the handshake with the plugins' answer where the server can, else by closing, which it shows as 403."""
        self._state = HANDSHAKE[self._state, Answer.BY_PLUGIN]
        begun = self._denial is not ResponseState.IDLE and self._to_client.started
        to_client = self._to_client
        await self._client.until(lambda: to_client.complete or to_client.reset_reason is not None)
        await self._client.until(lambda: self._client.connected)
        if self._client.gone:
            return
        if to_client.reset_reason is not None and begun:
            tell_cut(self._environment, to_client)
        elif to_client.complete and _DENIAL_EXTENSION in (self._server_scope.get("extensions") or {}):
            while to_client.messages:
                await self._send_denial(to_client.messages.popleft())
        else:
            to_client.messages.clear()
            await self._server_send({"type": _CLOSE, "code": _POLICY_VIOLATION, "reason": ""})
        self._finish()

    def _changed(self) -> None:
        """Something reached a far end."""
        self._client.wake()
        if self._state is HandshakeState.SETTLED and self._chain.answered_locally:
            # Too late to deny: all that can be done is to end it.
            self._state = HANDSHAKE[self._state, Answer.BY_PLUGIN]
            close = self._server_send({"type": _CLOSE, "code": _INTERNAL_ERROR, "reason": ""})
            self._closing = asyncio.ensure_future(close)
