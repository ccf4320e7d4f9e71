"""The same things as native ASGI middlewares, written as one would who wants them fast."""

from __future__ import annotations

import json
from collections.abc import Callable

from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send


def headers(app: ASGIApp) -> ASGIApp:
    """What the header plugin does: reads `:path` and `user-agent`, adds one header each way, reads the status."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        query = scope["query_string"]
        path = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
        agent = next((value for name, value in scope["headers"] if name == b"user-agent"), None)
        assert path or agent is not None  # both are read, and nothing more is done with them
        changed = {**scope, "headers": [*scope["headers"], (b"x-plugin", b"here")]}

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                assert message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-plugin-out", b"here")]}
            await send(message)

        await app(changed, receive, answer)

    return run


def fault(app: ASGIApp) -> ASGIApp:
    """What fault injection does with the bench's configuration, which is parsed once."""
    conf = json.loads('{"http_status": 200, "body": "hello world"}')
    status, body = conf["http_status"], conf["body"].encode()

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        answer = [
            (b"x-wasm-plugin", b"fault_injection/native"),
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"text/plain"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": answer})
        await send({"type": "http.response.body", "body": body})

    return run


def bodies_read(app: ASGIApp) -> ASGIApp:
    """Copies each piece of both bodies, as a plugin that reads them makes the host do."""
    return _bodies(app, _copied)


def bodies_changed(app: ASGIApp) -> ASGIApp:
    """Passes each piece on with its first byte in upper case."""
    return _bodies(app, _capitalised)


def _copied(body: bytes) -> bytes:
    copy = bytearray(body)
    return body if copy else b""


def _capitalised(body: bytes) -> bytes:
    copy = bytearray(body)
    copy[:1] = copy[:1].upper()
    return bytes(copy)


def _bodies(app: ASGIApp, change: Callable[[bytes], bytes]) -> ASGIApp:
    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return

        async def hear() -> Message:
            message = await receive()
            if message["type"] == "http.request" and message.get("body"):
                message = {**message, "body": change(message["body"])}
            return message

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.body" and message.get("body"):
                message = {**message, "body": change(message["body"])}
            await send(message)

        await app(scope, hear, answer)

    return run


TWINS: dict[str, Callable[[ASGIApp], ASGIApp]] = {
    "headers": headers,
    "fault": fault,
    "bodies read": bodies_read,
    "bodies changed": bodies_changed,
}
