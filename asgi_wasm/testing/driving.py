"""A whole request, or the handshake of a WebSocket, sent to an ASGI app as a server does, within a time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress

from starlette.datastructures import Headers

from asgi_wasm.asgi.types import ASGIApp, Message, Scope
from asgi_wasm.testing.clock import settle
from asgi_wasm.testing.connection import Connection
from asgi_wasm.testing.exchange import Exchange
from asgi_wasm.testing.patience import Patience

# Seconds of each wait. So many make up a patience: one that a machine lets go on for longer, since it stands still, is
# one of them.
_WAIT = 0.01
_SWITCHING_PROTOCOLS, _FORBIDDEN = 101, 403


class NotAnsweredError(AssertionError):
    """Raised when a request is not answered: a plugin has paused it, and nothing in the test resumes it."""


async def drive(app: ASGIApp, scope: Scope, chunks: list[bytes], exchange: Exchange, patience: Patience) -> None:
    """Send a request, and keep what comes. Raises `NotAnsweredError`, and what the app raises."""
    connection = Connection(app, scope, hangs_up=True)
    for index, chunk in enumerate(chunks or [b""]):
        connection.feed(chunk, more=index < len(chunks) - 1)
    try:
        await _end_of(connection.task, patience, lambda: connection.received + len(connection.response.messages))
    finally:
        exchange.keep(connection.response)
    error = connection.task.exception()
    if error is not None and not (exchange.was_reset and isinstance(error, ConnectionResetError)):
        raise error


async def shake_hands(app: ASGIApp, scope: Scope, exchange: Exchange, patience: Patience) -> None:
    """Ask for a WebSocket, keep what is answered, and go. The status is 101, or that of the denial.

    Raises `NotAnsweredError`, and what the app raises.
    """
    incoming: asyncio.Queue[Message] = asyncio.Queue()
    incoming.put_nowait({"type": "websocket.connect"})

    async def send(message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            protocol = message.get("subprotocol")
            own = [] if protocol is None else [(b"sec-websocket-protocol", protocol.encode())]
            exchange.status, exchange.headers = _SWITCHING_PROTOCOLS, Headers(raw=[*own, *message.get("headers", ())])
        elif kind == "websocket.http.response.start":
            exchange.status, exchange.headers = message["status"], Headers(raw=list(message.get("headers", ())))
            return
        elif kind == "websocket.http.response.body":
            exchange.chunks.append(message.get("body", b""))
            if message.get("more_body", False):
                return
        elif kind == "websocket.close" and not exchange.status:
            exchange.status = _FORBIDDEN
        incoming.put_nowait({"type": "websocket.disconnect", "code": 1000, "reason": ""})

    async def run() -> None:
        await app(scope, incoming.get, send)

    task = asyncio.ensure_future(run())
    try:
        await _end_of(task, patience, incoming.qsize)
    finally:
        exchange.was_reset = not exchange.status
    task.result()


async def _end_of(task: asyncio.Task[None], patience: Patience, count: Callable[[], int]) -> None:
    """``count`` is of messages so far. Raises `NotAnsweredError`; what the task raised is to be asked of it."""
    told = f"nothing was answered within {patience.seconds:g} s"
    for _ in range(math.ceil(patience.seconds / _WAIT)):
        before = patience.progress(), count()
        done, _ = await asyncio.wait({task}, timeout=_WAIT)
        if not done and patience.is_stuck():
            # A machine that stood still has let the wait be over, and nothing else.
            await settle()
            if not task.done() and (patience.progress(), count()) == before:
                told = "nothing can answer it"
                break
        if task.done():
            return
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    raise NotAnsweredError(told)
