"""WebSockets behind plugins, for tests."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from tests.asgi.acting import Resumer
from tests.driving import SECONDS, http_scope
from tests.guests import RESPONSE, Guest

ACCEPT: Message = {"type": "websocket.accept"}
CLOSE: Message = {"type": "websocket.close", "code": 1000}
START: Message = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"content-length", b"4")]}
BODY: Message = {"type": "websocket.http.response.body", "body": b"sign", "more_body": False}
# A server that can send a response instead of an accept.
DENIAL: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}


def resuming(resumer: Resumer, guest: Guest) -> None:
    resumer.later(lambda api: (api.set_effective_context(guest.created[-1]), api.continue_stream(RESPONSE)))


class Leaving:
    """A server's side of a connection whose client goes soon."""

    def __init__(self) -> None:
        self.messages: list[Message] = [{"type": "websocket.connect"}]

    async def receive(self) -> Message:
        if self.messages:
            return self.messages.pop()
        await asyncio.sleep(0.01)
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(self, message: Message) -> None:
        pass


class Socket:
    """One connection; the test plays server and client."""

    def __init__(self, app: ASGIApp, path: str = "/", **more: Any) -> None:
        self.scope = http_scope(path=path, headers=[(b"upgrade", b"websocket")], **more)
        del self.scope["method"]
        self.scope.update(type="websocket", scheme=more.get("scheme", "ws"), subprotocols=["chat"])
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.sent: list[Message] = []
        self.task = asyncio.ensure_future(self._run(app))

    async def _run(self, app: ASGIApp) -> None:
        await app(self.scope, self.incoming.get, self._send)

    async def _send(self, message: Message) -> None:
        self.sent.append(message)
        if message["type"] == "websocket.close":
            self.hang_up()

    def say(self, text: str) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    def hang_up(self) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def over(self) -> list[Message]:
        await asyncio.wait_for(self.task, SECONDS)
        return self.sent


def accepting(**accept: Any) -> ASGIApp:
    """An app that accepts and echoes until the client goes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept", **accept})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    return app


def denying(*messages: Message) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for message in messages:
            await send(message)

    return app


class Strict(Socket):
    """A server that takes no second `receive` while one is under way."""

    busy = False

    async def _run(self, app: ASGIApp) -> None:
        async def receive() -> Message:
            assert not self.busy, "two at a time"
            self.busy = True
            try:
                return await self.incoming.get()
            finally:
                self.busy = False

        await app(self.scope, receive, self._send)


async def assert_let_go_of(connect: Callable[[], Awaitable[weakref.ref[Leaving]]]) -> None:
    """At the end of a connection nothing holds it, without a turn of the garbage collector."""
    await connect()
    gc.collect()
    gc.disable()
    try:
        assert (await connect())() is None
    finally:
        gc.enable()
