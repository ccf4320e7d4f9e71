"""WebSockets behind plugins, for tests."""

from __future__ import annotations

from asgi_wasm.asgi.types import Message
from tests.asgi.acting import Resumer
from tests.guests import RESPONSE, Guest

ACCEPT: Message = {"type": "websocket.accept"}
CLOSE: Message = {"type": "websocket.close", "code": 1000}
START: Message = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"content-length", b"4")]}
BODY: Message = {"type": "websocket.http.response.body", "body": b"sign", "more_body": False}


def resuming(resumer: Resumer, guest: Guest) -> None:
    resumer.later(lambda api: (api.act_for(guest.created[-1]), api.resume(RESPONSE)))
