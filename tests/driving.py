"""Drives an ASGI app in process: one request in, the messages of its response out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send

Headers = Sequence[tuple[bytes, bytes]]
SECONDS = 10.0


@dataclass
class Response:
    """What the client got."""

    messages: list[Message] = field(default_factory=list)

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return list(self.messages[0]["headers"])

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)

    @property
    def chunks(self) -> list[bytes]:
        return [message.get("body", b"") for message in self.messages if message["type"] == "http.response.body"]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def complete(self) -> bool:
        bodies = [message for message in self.messages if message["type"] == "http.response.body"]
        return bool(bodies) and not bodies[-1].get("more_body", False)


def http_scope(method: str = "GET", path: str = "/", headers: Headers = (), **more: Any) -> dict[str, Any]:
    """A scope as uvicorn makes it."""
    raw_path, _, query = path.encode("latin-1").partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": raw_path.decode(),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [(b"host", b"example.test"), *headers],
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8000),
        **more,
    }


async def request(
    app: ASGIApp,
    method: str = "GET",
    path: str = "/",
    headers: Headers = (),
    body: Iterable[bytes] = (),
    *,
    stays: bool = True,
    **more: Any,
) -> Response:
    """One request with its body in chunks. When the client does not stay, it is gone after its last chunk."""
    chunks = list(body)
    if chunks and not any(name == b"content-length" for name, _ in headers):
        headers = [*headers, (b"content-length", b"%d" % sum(map(len, chunks)))]
    incoming: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": not stays or index < len(chunks) - 1}
        for index, chunk in enumerate(chunks)
    ] or [{"type": "http.request", "body": b"", "more_body": False}]
    if not stays:
        incoming.append({"type": "http.disconnect"})
    response = Response()
    answered = asyncio.Event()

    async def receive() -> Message:
        if incoming:
            return incoming.pop(0)
        await answered.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        response.messages.append(message)
        if response.complete and message["type"] == "http.response.body":
            answered.set()

    await asyncio.wait_for(app(http_scope(method, path, headers, **more), receive, send), SECONDS)
    return response


def answering(*chunks: bytes, headers: Headers = (), status: int = 200) -> ASGIApp:
    """An app that reads the request's body and answers with these chunks."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive()).get("more_body", False):
            if message["type"] == "http.disconnect":
                return
        if message["type"] == "http.disconnect":
            return
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for index, chunk in enumerate(chunks or (b"",)):
            await send({"type": "http.response.body", "body": chunk, "more_body": index < len(chunks) - 1})

    return app


class Connection:
    """One request, message by message: the test plays server and client, as strict as uvicorn.

    ``open_gate`` false makes every `send` wait, as for a client that does not read.
    """

    def __init__(self, app: ASGIApp, method: str = "GET", path: str = "/", headers: Headers = (), **more: Any) -> None:
        self.scope = http_scope(method, path, headers, **more)
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.response = Response()
        self.gate = asyncio.Event()
        self.gate.set()
        # What the server gave out, and how often `receive` waits at this moment.
        self.received = 0
        self.receiving = 0
        self.task = asyncio.ensure_future(self._run(app))

    async def _run(self, app: ASGIApp) -> None:
        await app(self.scope, self._receive, self._send)

    async def _receive(self) -> Message:
        self.receiving += 1
        assert self.receiving == 1, "two tasks receive at once: a message can be lost"
        try:
            message = await self.incoming.get()
        finally:
            self.receiving -= 1
        self.received += 1
        return message

    async def _send(self, message: Message) -> None:
        await self.gate.wait()
        kind = message["type"]
        started = any(earlier["type"] == "http.response.start" for earlier in self.response.messages)
        if kind == "http.response.start" and started:
            raise RuntimeError("a second http.response.start")
        if kind == "http.response.body" and not started:
            raise RuntimeError("http.response.body before http.response.start")
        if kind == "http.response.body" and self.response.complete:
            raise RuntimeError("http.response.body after the response's end")
        self.response.messages.append(message)

    def feed(self, body: bytes = b"", *, more: bool = False) -> None:
        """A chunk of the request's body."""
        self.incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def hang_up(self) -> None:
        """The client goes."""
        self.incoming.put_nowait({"type": "http.disconnect"})

    async def sent(self, count: int) -> list[Message]:
        """Wait until the client has this many messages."""

        await until(lambda: len(self.response.messages) >= count or self.task.done())
        if len(self.response.messages) < count:
            await self.task
            raise AssertionError(f"the app ended after {len(self.response.messages)} messages")
        return self.response.messages

    async def over(self) -> Response:
        """Wait for the app's end. Raises what it raises."""
        await asyncio.wait_for(self.task, SECONDS)
        return self.response

    async def cancel(self) -> None:
        """What a server does at its own end."""
        self.task.cancel()
        await asyncio.wait([self.task])
        assert self.task.cancelled()


async def until(condition: Callable[[], object], seconds: float = 30.0) -> bool:
    """Wait for what nobody tells of. True; fails when it does not happen in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.001)
    return True


async def settled() -> None:
    """Let everything that is ready to run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    """`asyncio.run` for a function."""

    async def call() -> Any:
        return await main()

    return asyncio.run(call())
