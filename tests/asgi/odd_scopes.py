"""Scopes with what ASGI allows and few servers say, and plugins that ask for all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.guests import CONTINUE, REQUEST_HEADERS

FIELDS = [(b"host", b"example.test"), (b"x-many", b"1"), (b"x-many", b"2")]
# Every attribute that a scope tells.
_NAMES = {
    "request": "path url_path host scheme method headers referer useragent id time protocol query duration size "
    "total_size headers_bytes",
    "response": "code code_details flags grpc_status headers headers_bytes size total_size",
    "source": "address port",
    "destination": "address port",
    "connection": "mtls requested_server_name tls_version subject_peer_certificate",
}
ATTRIBUTES = [f"{group}.{name}" for group, names in _NAMES.items() for name in names.split()]
CALLBACKS = ("on_request_headers", "on_response_headers", "on_request_body", "on_response_body")


def asking(answers: dict[str, bytes | None]) -> Callable[..., int]:
    """A callback that asks for every attribute, and for every header."""

    def callback(api: Hostcalls, *_: int) -> int:
        for name in ATTRIBUTES:
            answers[name] = api.get_property(name.replace(".", "\0").encode())
        answers["pairs"] = repr(api.get_header_map_pairs(REQUEST_HEADERS)).encode()
        return CONTINUE

    return callback


class Seen:
    """An app that notes its scope, its headers read in full."""

    def __init__(self, headers: Iterable[Any] = ()) -> None:
        self.scope: dict[str, Any] = {}
        self.headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = {**scope, "headers": [tuple(field) for field in scope.get("headers") or ()]}
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"ok"})


async def serve(middleware: WasmMiddleware, scope: dict[str, Any]) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append({**message, "headers": [tuple(field) for field in message.get("headers") or ()]})

    await middleware(scope, receive, send)
    return sent
