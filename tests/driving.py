"""How our own tests drive an ASGI app in process: the kit's driver (`asgi_wasm.testing`), with defaults of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from asgi_wasm.testing import connection
from asgi_wasm.testing.clock import settle as settled
from asgi_wasm.testing.connection import Response
from asgi_wasm.testing.exchange import scope_of
from tests.waiting import SECONDS, until

__all__ = [
    "SECONDS",
    "Connection",
    "Headers",
    "Response",
    "answering",
    "http_scope",
    "leave_at_once",
    "listening",
    "request",
    "run",
    "settled",
    "until",
]

Headers = Sequence[tuple[bytes, bytes]]


def http_scope(method: str = "GET", path: str = "/", headers: Headers = (), **more: Any) -> dict[str, Any]:
    """A scope as uvicorn makes it. A ``host`` among the headers is one more."""
    own = [(b"host", b"example.test"), *headers]
    return {**scope_of(method, path, own, **more), "headers": own}


class Connection(connection.Connection):
    """One request, message by message."""

    def __init__(
        self,
        app: ASGIApp,
        method: str = "GET",
        path: str = "/",
        headers: Headers = (),
        *,
        hangs_up: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(app, http_scope(method, path, headers, **more), hangs_up=hangs_up)

    async def over(self, seconds: float = SECONDS) -> Response:
        """Wait for the app's end. Raises what it raises."""
        return await super().over(seconds)


async def leave_at_once(app: ASGIApp) -> None:
    """A request whose client goes before it is answered. Raises what the app raises, and when something is sent."""
    incoming: Iterator[Message] = iter(
        [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]
    )

    async def receive() -> Message:
        await asyncio.sleep(0)
        return next(incoming)

    async def send(message: Message) -> None:
        raise AssertionError("nobody is there")

    await asyncio.wait_for(app(http_scope(), receive, send), SECONDS)


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
    sent = Connection(app, method, path, headers, hangs_up=stays, **more)
    for index, chunk in enumerate(chunks):
        sent.feed(chunk, more=not stays or index < len(chunks) - 1)
    if not chunks:
        sent.feed()
    if not stays:
        sent.hang_up()
    return await sent.over()


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


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    """`asyncio.run` for a function."""

    async def call() -> Any:
        return await main()

    return asyncio.run(call())


@asynccontextmanager
async def listening(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]], host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """The port of a server in this event loop. Its connections end with it, and so does whatever handles them.

    A handler that is left when its loop closes would be a warning, at some later moment of another test.
    """
    writers: dict[asyncio.Task[Any] | None, asyncio.StreamWriter] = {}

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers[asyncio.current_task()] = writer
        # Cancelled below, and by nobody else.
        with suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            await handle(reader, writer)

    server = await asyncio.start_server(handled, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task, writer in writers.items():
            writer.transport.abort()
            assert task is not None
            task.cancel()
        await asyncio.gather(*(task for task in writers if task is not None), return_exceptions=True)
        # Aborted transports close their sockets in the next iteration.
        await asyncio.sleep(0)
