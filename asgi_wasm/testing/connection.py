"""One ASGI connection, message by message: who tests plays the server and the client, as strict as a server is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from asgi_wasm.asgi.types import ASGIApp, Message, Scope

# Seconds of real time after which something that is waited for will not happen any more.
PATIENCE = 30.0


@dataclass
class Response:
    """What the client got."""

    messages: list[Message] = field(default_factory=list)

    @property
    def is_started(self) -> bool:
        """Whether its head is there."""
        return any(message["type"] == "http.response.start" for message in self.messages)

    @property
    def status(self) -> int:
        """That of its head, which must be there."""
        status: int = self.messages[0]["status"]
        return status

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Those of its head, which must be there."""
        return list(self.messages[0].get("headers", ()))

    def header(self, name: bytes) -> bytes | None:
        """The last value of a header."""
        return dict(self.headers).get(name)

    @property
    def chunks(self) -> list[bytes]:
        """The body's pieces, as they came."""
        return [message.get("body", b"") for message in self.messages if message["type"] == "http.response.body"]

    @property
    def body(self) -> bytes:
        """The whole body so far."""
        return b"".join(self.chunks)

    @property
    def trailers(self) -> list[tuple[bytes, bytes]]:
        """What came after the body."""
        found = [message for message in self.messages if message["type"] == "http.response.trailers"]
        return [pair for message in found for pair in message.get("headers", ())]

    @property
    def complete(self) -> bool:
        """Whether the body's end was among what came."""
        bodies = [message for message in self.messages if message["type"] == "http.response.body"]
        return bool(bodies) and not bodies[-1].get("more_body", False)

    @property
    def is_whole(self) -> bool:
        """Whether nothing more can come: not even trailers, if they were announced."""
        last = self.messages[-1] if self.messages else {"type": ""}
        if self.is_started and self.messages[0].get("trailers", False):
            return last["type"] == "http.response.trailers" and not last.get("more_trailers", False)
        return self.complete


class Connection:
    """One request. Needs a running event loop; the app runs as a task of it.

    With ``gate`` cleared every `send` of the app waits, as for a client that does not read.
    """

    def __init__(self, app: ASGIApp, scope: Scope, *, hangs_up: bool = False) -> None:
        """``hangs_up``: the client goes as soon as it has the whole response, as `request` does."""
        self.scope = scope
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.response = Response()
        self.gate = asyncio.Event()
        self.gate.set()
        # What the server gave out, and how often `receive` waits at this moment.
        self.received = 0
        self.receiving = 0
        self._hangs_up = hangs_up
        self._is_gone = False
        self.task = asyncio.ensure_future(self._run(app))

    async def _run(self, app: ASGIApp) -> None:
        await app(self.scope, self._receive, self._send)

    async def _receive(self) -> Message:
        self.receiving += 1
        if self.receiving != 1:
            raise AssertionError("two tasks receive at once: a message can be lost")
        try:
            message = await self._next()
        finally:
            self.receiving -= 1
        self.received += 1
        return message

    async def _next(self) -> Message:
        if self._is_gone and self.incoming.empty():
            return {"type": "http.disconnect"}
        return await self.incoming.get()

    async def _send(self, message: Message) -> None:
        await self.gate.wait()
        kind = message["type"]
        if kind == "http.response.start" and self.response.is_started:
            raise RuntimeError("a second http.response.start")
        if kind == "http.response.body" and not self.response.is_started:
            raise RuntimeError("http.response.body before http.response.start")
        if kind == "http.response.body" and self.response.complete:
            raise RuntimeError("http.response.body after the response's end")
        self.response.messages.append(message)
        if self._hangs_up and not self._is_gone and self.response.is_whole:
            self.hang_up()

    def feed(self, body: bytes = b"", *, more: bool = False) -> None:
        """A piece of the request's body."""
        self.incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def hang_up(self) -> None:
        """The client goes."""
        self._is_gone = True
        self.incoming.put_nowait({"type": "http.disconnect"})

    async def sent(self, count: int) -> list[Message]:
        """Wait until the client has this many messages, and give them. Raises what the app raises before."""
        await until(lambda: len(self.response.messages) >= count or self.task.done())
        if len(self.response.messages) < count:
            await self.task
            raise AssertionError(f"the app ended after {len(self.response.messages)} messages")
        return self.response.messages

    async def over(self, seconds: float = PATIENCE) -> Response:
        """Wait for the app's end. Raises what it raises."""
        await asyncio.wait_for(self.task, seconds)
        return self.response

    async def cancel(self) -> None:
        """What a server does at its own end."""
        self.task.cancel()
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            raise AssertionError("the app was cancelled, and ended otherwise")


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Wait for what nobody tells of. True; raises AssertionError when it does not happen in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"it did not happen within {seconds:g} s")
        await asyncio.sleep(0.001)
    return True
