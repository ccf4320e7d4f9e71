"""Connections of HTTP/1.1 to upstreams: when one is used again, and that no answer but its own reaches a call."""

from __future__ import annotations

import asyncio
import socket

import pytest

from asgi_wasm.services.callouts.connector import Connector
from asgi_wasm.services.callouts.http1 import Http1Connection
from asgi_wasm.services.callouts.messages import (
    Answer,
    ConnectionLostError,
    Request,
)
from asgi_wasm.services.callouts.pool import Pool
from asgi_wasm.services.callouts.turns import Turns
from tests.driving import listening, until
from tests.services.callouts.http1_server import OK, POISON, Calls, Writer, saying


async def test_connection_is_used_again() -> None:
    async with Calls(saying(OK)) as calls:
        for _ in range(5):
            assert await calls.get() == b"ok"
        assert calls.connections == 1
        await asyncio.gather(*(calls.get() for _ in range(3)))
        await asyncio.gather(*(calls.get() for _ in range(3)))
        assert calls.connections == 3


@pytest.mark.parametrize(
    ("method", "reply", "later"),
    [
        (b"GET", OK + POISON, b""),
        (b"GET", OK, POISON),
        (b"GET", OK + b"\r\n", b""),
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 45\r\n\r\n" + POISON, b""),
        (b"GET", b"HTTP/1.1 204 No\r\n\r\n" + POISON, b""),
        (b"GET", b"HTTP/1.1 304 No\r\ncontent-length: 45\r\n\r\n" + POISON, b""),
        (b"GET", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n" + POISON, b""),
        (b"GET", OK + b"HTTP/1.1 103 Early\r\n\r\n", POISON),
        (b"GET", b"HTTP/1.1 101 Up\r\nupgrade: x\r\n\r\n" + POISON, POISON),
        (b"GET", OK.replace(b"OK\r\n", b"OK\r\nconnection: close\r\n"), POISON),
        (b"GET", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", POISON),
    ],
    ids=[
        "surplus",
        "late-surplus",
        "line-break",
        "head-with-body",
        "204-with-body",
        "304-with-body",
        "after-last-chunk",
        "interim-afterwards",
        "upgrade",
        "connection-close",
        "http-1.0",
    ],
)
@pytest.mark.parametrize("waits", [True, False], ids=["later", "at-once"])
async def test_what_is_beyond_an_answer_answers_nobody(method: bytes, reply: bytes, later: bytes, waits: bool) -> None:
    """The next call is another request's, whenever it comes."""
    answered = asyncio.Event()
    async with Calls(saying(reply, later, answered)) as calls:
        headers = [(b"host", b"up.test"), *([(b"upgrade", b"x")] if b" 101 " in reply else [])]
        await calls.pool.exchange(Request(method, b"/first", headers, b""), Answer(100))
        answered.set()
        if waits or later:
            await until(lambda: calls.closed == 1)
        assert [await calls.get() for _ in range(3)] == [b"ok"] * 3
        assert calls.connections == 2


async def test_surplus_that_the_loop_has_not_read_yet_is_seen() -> None:
    """It lies in the kernel while the loop is busy with something else."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        turns = Turns()
        connector = Connector("127.0.0.1", server.getsockname()[1], None)
        connection = await connector.connect(lambda: Http1Connection(turns))
        peer, _ = server.accept()
        with peer:
            peer.sendall(OK)
            await connection.exchange(Request(b"GET", b"/", [(b"host", b"a")], b""), Answer(100))
            assert connection.is_usable
            peer.sendall(POISON)
            assert not connection.is_usable
        connection.abort()


async def test_answer_to_half_a_request_ends_the_connection() -> None:
    async with Calls(saying(OK)) as calls:
        # More than the kernel's buffers take: the server does not read it.
        assert await calls.get("/first", b"POST", bytes(16 << 20)) == b"ok"
        assert await calls.get() == b"ok"
        assert calls.connections == 2


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"])
async def test_answer_of_a_call_that_was_given_up_reaches_nobody(begun: bytes) -> None:
    given_up = asyncio.Event()
    async with Calls(saying(begun, POISON, given_up)) as calls:
        task = asyncio.ensure_future(calls.get("/first"))
        await until(lambda: calls.asked)
        # Most likely what has begun is there by then; if not, it is given up before, which is right too.
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        given_up.set()
        assert [await calls.get() for _ in range(2)] == [b"ok"] * 2
        assert calls.connections == 2


async def test_server_that_closes_an_idle_connection() -> None:
    closed = asyncio.Event()

    async def serve(path: bytes, writer: Writer) -> None:
        writer.write(OK)
        if path == b"/first":
            writer.close()
            await writer.wait_closed()
            closed.set()

    async with Calls(serve) as calls:
        assert await calls.get("/first") == b"ok"
        # The end of the connection is in the kernel's buffer then, which is looked into before a call.
        await closed.wait()
        assert await calls.get() == b"ok"
        assert calls.connections == 2


async def test_idle_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.services.callouts.pool.IDLE_SECONDS", 0.05)
    monkeypatch.setattr("asgi_wasm.services.callouts.pool.SWEEP_SECONDS", 0.02)

    async with Calls(saying(OK)) as calls:
        await asyncio.gather(*(calls.get() for _ in range(5)))
        assert calls.connections == 5
        await until(lambda: calls.closed == 5)
        await calls.get()
        assert calls.connections == 6


@pytest.mark.parametrize("reads", [0, 100_000])
async def test_reset_in_the_middle_of_a_request(reads: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        if reads:
            await reader.readexactly(reads)
        # Not in good order: what it has not read is a reset.
        writer.transport.abort()

    async with listening(serve) as port:
        pool = Pool(Connector("127.0.0.1", port, None), Turns())
        body = bytes(20_000_000)
        headers = [(b"host", b"up.test"), (b"content-length", b"%d" % len(body))]
        for _ in range(3):
            with pytest.raises(ConnectionLostError):
                await pool.exchange(Request(b"POST", b"/", headers, body), Answer(1000))
        await pool.close()


async def test_answer_that_comes_before_the_body_was_read() -> None:
    """It counts, and the rest of the body is nobody's request."""
    async with Calls(saying(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno")) as calls:
        for _ in range(3):
            assert await calls.get("/first", b"POST", bytes(20_000_000)) == b"no"
        assert calls.connections == 3
