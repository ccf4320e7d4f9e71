"""Connections to upstreams: when one is used again, and that nothing but an answer to its own call reaches a call."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from asgi_wasm.services.callouts.connector import Connector, connector_to
from asgi_wasm.services.callouts.deadline import Deadline
from asgi_wasm.services.callouts.http1 import Http1Connection
from asgi_wasm.services.callouts.messages import (
    Answer,
    AnswerTooLargeError,
    ConnectError,
    ConnectionLostError,
    Request,
    UpstreamProtocolError,
)
from asgi_wasm.services.callouts.pool import Pool
from asgi_wasm.services.callouts.turns import Turns
from asgi_wasm.specs import UpstreamSpec
from tests.driving import listening, until
from tests.serving import free_port

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
POISON = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
Writer = asyncio.StreamWriter
# From the path of a request to what is done about it.
Serve = Callable[[bytes, Writer], Awaitable[None]]


class Calls:
    """A pool to a server that does as a test says with each request, whose body it does not read."""

    def __init__(self, serve: Serve) -> None:
        self.connections = 0
        self.asked: list[bytes] = []
        self._serve = serve
        self._server = AsyncExitStack()

    async def __aenter__(self) -> Calls:
        self.port = await self._server.enter_async_context(listening(self._one))
        self.pool = Pool(Connector("127.0.0.1", self.port, None), Turns())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.close()
        await self._server.aclose()

    async def _one(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked.append(head.split()[1])
                await self._serve(self.asked[-1], writer)
        except asyncio.LimitOverrunError:
            # What came is a body, which this server does not read.
            pass
        finally:
            writer.close()

    async def get(self, path: str = "/", method: bytes = b"GET", body: bytes = b"", limit: int = 1 << 20) -> bytes:
        """The body of the answer."""
        headers = [(b"host", b"up.test"), *([(b"content-length", b"%d" % len(body))] if body else [])]
        answer = Answer(limit)
        await self.pool.exchange(Request(method, path.encode(), headers, body), answer)
        assert answer.headers is not None
        return bytes(answer.body)


def saying(reply: bytes, later: bytes = b"", event: asyncio.Event | None = None) -> Serve:
    """``reply`` to /first, and ``later`` a moment after it, or after an event; to anything else OK."""

    async def serve(path: bytes, writer: Writer) -> None:
        writer.write(reply if path == b"/first" else OK)
        if path == b"/first" and later:
            await (asyncio.sleep(0.02) if event is None else event.wait())
            writer.write(later)

    return serve


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
    async with Calls(saying(reply, later)) as calls:
        headers = [(b"host", b"up.test"), *([(b"upgrade", b"x")] if b" 101 " in reply else [])]
        await calls.pool.exchange(Request(method, b"/first", headers, b""), Answer(100))
        if waits or later:
            await asyncio.sleep(0.05)
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
    async def serve(path: bytes, writer: Writer) -> None:
        writer.write(OK)
        if path == b"/first":
            writer.close()

    async with Calls(serve) as calls:
        assert await calls.get("/first") == b"ok"
        await asyncio.sleep(0.02)
        assert await calls.get() == b"ok"
        assert calls.connections == 2


async def test_idle_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.services.callouts.pool.IDLE_SECONDS", 0.05)
    monkeypatch.setattr("asgi_wasm.services.callouts.pool.SWEEP_SECONDS", 0.02)

    async with Calls(saying(OK)) as calls:
        await asyncio.gather(*(calls.get() for _ in range(5)))
        assert calls.connections == 5
        await asyncio.sleep(0.2)
        await calls.get()
        assert calls.connections == 6


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"", ConnectionLostError),
        (b"HTTP/1.1 200 OK\r\nx-a: ", UpstreamProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", UpstreamProtocolError),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", UpstreamProtocolError),
        (b"HTTP/1.1 200 OK\r\nx-a: " + b"v" * 100_000, UpstreamProtocolError),
        (b"HTTP/1.1 103 Early\r\n\r\n" * 101 + OK, UpstreamProtocolError),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000, UpstreamProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n" + b"x" * 200, AnswerTooLargeError),
        (b"HTTP/1.1 103 Early\r\n\r\n", ConnectionLostError),
        (b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 2", UpstreamProtocolError),
        (b"HTTP/1.1 101 Up\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", UpstreamProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", UpstreamProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", UpstreamProtocolError),
        (b"HTTP/1.1 204 No\r\ncontent-length: 3\r\n\r\nabc", UpstreamProtocolError),
        (b"HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", UpstreamProtocolError),
        (b"HTTP/1.1 200 OK\r\nx-a: a\x07b\r\n\r\n", UpstreamProtocolError),
        (b"HTTP/1.1 200 OK\r\nx-a: a\0b\r\n\r\n", UpstreamProtocolError),
        (b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 101 + b"\r\n", UpstreamProtocolError),
    ],
    ids=[
        *("nothing", "cut-head", "cut-body", "cut-chunk", "long-head", "interim", "tiny-chunks", "too-large"),
        *("interim-alone", "interim-cut", "upgrade", "length-and-chunks", "two-lengths", "204-length", "204-chunked"),
        *("bell", "nul", "many-fields"),
    ],
)
async def test_no_answer(reply: bytes, error: type[Exception]) -> None:
    async def serve(path: bytes, writer: Writer) -> None:
        writer.write(reply)
        writer.close()

    async with Calls(serve) as calls:
        with pytest.raises(error):
            await calls.get(limit=100 if error is AnswerTooLargeError else 1 << 20)


async def test_a_hundred_interim_answers_and_small_pieces_are_no_fault() -> None:
    reply = b"HTTP/1.1 103 Early\r\n\r\n" * 100 + b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    reply += b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"

    async with Calls(saying(reply)) as calls:
        assert await calls.get("/first") == b"x" * 10_000
        await calls.get()
        assert calls.connections == 1


async def test_others_have_their_turn_while_pieces_are_parsed() -> None:
    """Endless pieces, without a bound: between any two of a hundred there is an iteration of the loop."""

    async def serve(path: bytes, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 9_000 + b"0\r\n\r\n")

    async with Calls(serve) as calls:
        tasks = [asyncio.ensure_future(calls.get()) for _ in range(5)]
        iterations = 0
        while not all(task.done() for task in tasks):
            iterations += 1
            await asyncio.sleep(0)
        assert iterations > 5 * 9_000 / (8 * 32)


async def test_headers_of_the_connection_are_nobodys() -> None:
    """As in Envoy: a keep-alive, and the length of a 204."""
    reply = b"HTTP/1.1 204 No\r\ncontent-length: 0\r\nkeep-alive: timeout=5\r\nx-a: b\r\n\r\n"
    async with Calls(saying(reply)) as calls:
        answer = Answer(1000)
        await calls.pool.exchange(Request(b"GET", b"/first", [(b"host", b"up.test")], b""), answer)
        assert answer.headers is not None and answer.headers.pairs == [(b":status", b"204"), (b"x-a", b"b")]
        assert await calls.get() == b"ok"
        assert calls.connections == 1


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


@pytest.mark.parametrize(
    "begun", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"]
)
async def test_a_timeout_is_kept_while_an_answer_drips(begun: bytes) -> None:
    """In interim answers, in its head, in its body."""

    async def serve(path: bytes, writer: Writer) -> None:
        writer.write(begun)
        # So many last for a second, on whatever machine, and are fewer where that stands still.
        for _ in range(200):
            await asyncio.sleep(0.005)
            drop = b"1\r\nx\r\n" if b"chunked" in begun else b"x-a: b\r\n"
            writer.write(drop if begun else b"HTTP/1.1 103 Early\r\n\r\n")
            await writer.drain()
        writer.close()

    async with Calls(serve) as calls:
        # It would end by itself, in another way.
        with pytest.raises(asyncio.TimeoutError), Deadline(0.2):
            await calls.get()


async def test_ipv6() -> None:
    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        writer.close()

    async with AsyncExitStack() as stack:
        try:
            port = await stack.enter_async_context(listening(serve, "::1"))
        except OSError:
            pytest.skip("this machine has no IPv6")
        pool, answer = Pool(connector_to(UpstreamSpec("up", f"http://[::1]:{port}"), []), Turns()), Answer(1000)
        await pool.exchange(Request(b"GET", b"/", [(b"host", b"up.test")], b""), answer)
        assert answer.body == b"ok"
        await pool.close()


async def test_nobody_listens() -> None:
    pool = Pool(Connector("127.0.0.1", free_port(), None), Turns())
    with pytest.raises(ConnectError):
        await pool.exchange(Request(b"GET", b"/", [(b"host", b"a")], b""), Answer())


async def test_names_are_resolved_once_for_many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Calls(saying(OK)) as calls:
        port = calls.port
        calls.pool = Pool(Connector("localhost", port, None), Turns())
        loop, asked = asyncio.get_running_loop(), []
        real = loop.getaddrinfo

        async def getaddrinfo(*arguments: object, **more: object) -> object:
            asked.append(arguments)
            return await real(*arguments, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        assert await asyncio.gather(*(calls.get() for _ in range(20))) == [b"ok"] * 20
        assert len([one for one in asked if one[0] == "localhost"]) == 1


class Names:
    """A name server: ``answer`` are its addresses or its error, None for none yet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: list[str] | OSError | None) -> None:
        self.answer = answer
        self.asked = 0
        loop = asyncio.get_running_loop()
        real = loop.getaddrinfo

        async def getaddrinfo(host: object, port: object, **more: object) -> object:
            if host != "up.test":
                return await real(host, port, **more)  # type: ignore[arg-type]
            self.asked += 1
            await until(lambda: self.answer is not None)
            assert self.answer is not None
            if isinstance(self.answer, OSError):
                raise self.answer
            return [(0, 0, 0, "", (address, port)) for address in self.answer]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


async def test_a_name_that_is_not_resolved_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By calls at once, and by those that come while it takes: each would hold a thread."""
    async with Calls(saying(OK)) as calls:
        names = Names(monkeypatch, None)
        calls.pool = Pool(Connector("up.test", calls.port, None), Turns())
        for _ in range(5):
            with pytest.raises(asyncio.TimeoutError), Deadline(0.02):
                await calls.get()
        together = [asyncio.ensure_future(calls.get()) for _ in range(20)]
        await asyncio.sleep(0.02)
        names.answer = OSError("Name or service not known")
        results = await asyncio.gather(*together, return_exceptions=True)
        assert {type(result) for result in results} == {ConnectError} and "up.test" in str(results[0])
        assert names.asked == 1
        names.answer = ["127.0.0.1"]
        assert await calls.get() == b"ok"
        assert names.asked == 2


async def test_what_a_name_was_is_used_while_its_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.services.callouts.connector._FRESH_SECONDS", 0.0)
    monkeypatch.setattr("asgi_wasm.services.callouts.connector._ADDRESS_TIMEOUT", 0.05)

    async with Calls(saying(OK.replace(b"OK\r\n", b"OK\r\nconnection: close\r\n"))) as calls:
        # An address that refuses first.
        names = Names(monkeypatch, ["127.0.0.2", "127.0.0.1"])
        calls.pool = Pool(Connector("up.test", calls.port, None), Turns())
        assert await calls.get("/first") == b"ok"
        for answer in (OSError("Temporary failure in name resolution"), None):
            names.answer = answer
            assert await calls.get("/first") == b"ok"
        assert names.asked == 3
    # The one that is still asked for is no task that is left over.
    await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if "_look_up" in repr(task)] == []


async def answered(pool: Pool, path: str, seconds: float, limit: int) -> weakref.ref[Answer]:
    """A call whose answer nobody keeps."""
    answer = Answer(limit)
    with contextlib.suppress(Exception), Deadline(seconds):
        await pool.exchange(Request(b"GET", path.encode(), [(b"host", b"up.test")], b""), answer)
    return weakref.ref(answer)


@pytest.mark.parametrize(
    ("reply", "limit"),
    [
        (OK, 100),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n" + b"x" * 200, 100),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", 100),
        (b"nonsense\r\n\r\n", 100),
        (b"", 100),
    ],
    ids=["whole", "too-large", "cut", "no-http", "timeout"],
)
async def test_nothing_of_a_call_waits_for_the_garbage_collector(reply: bytes, limit: int) -> None:
    """An answer may have 32 MiB, and a thousand calls may fail at once."""

    async def serve(path: bytes, writer: Writer) -> None:
        writer.write(reply)
        if b"abc" in reply:
            writer.close()

    async with Calls(serve) as calls:
        gc.collect()
        gc.disable()
        try:
            left = [await answered(calls.pool, "/first", 0.1, limit) for _ in range(3)]
            # The loop keeps its last callbacks for an iteration or two.
            for _ in range(5):
                await asyncio.sleep(0.01)
            assert [ref() for ref in left] == [None] * 3
        finally:
            gc.enable()


async def test_a_timeout_is_kept_whatever_comes() -> None:
    """Pieces without end, whose bound is far away, end when they are to, not when they are through."""

    async def serve(path: bytes, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write((b"80\r\n" + b"x" * 128 + b"\r\n") * 500)
            await writer.drain()

    async with Calls(serve) as calls:
        loop = asyncio.get_running_loop()
        steps, began, iterations = 0, loop.time(), 0
        task = asyncio.ensure_future(answered(calls.pool, "/first", 0.3, 1 << 30))
        while not task.done():
            await asyncio.sleep(0)
            iterations += 1
            steps += loop.time() - began < 0.3
        # Not in seconds, which a busy machine has its own of: few iterations come after its time.
        assert iterations - steps <= 20 + iterations // 10
