"""WebSockets behind plugins, for tests."""

from __future__ import annotations

import asyncio

from asgi_wasm.asgi.types import Message
from tests.asgi.acting import Resumer
from tests.guests import RESPONSE, Guest

ACCEPT: Message = {"type": "websocket.accept"}
CLOSE: Message = {"type": "websocket.close", "code": 1000}
START: Message = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"content-length", b"4")]}
BODY: Message = {"type": "websocket.http.response.body", "body": b"sign", "more_body": False}


def resuming(resumer: Resumer, guest: Guest) -> None:
    resumer.later(lambda api: (api.act_for(guest.created[-1]), api.resume(RESPONSE)))


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
