"""Answers over HTTP/1.1: cut, malformed, endless, in drops; what of them reaches the call, and until when."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

import pytest

from asgi_wasm.services.callouts.deadline import Deadline
from asgi_wasm.services.callouts.messages import (
    Answer,
    AnswerTooLargeError,
    ConnectionLostError,
    Request,
    UpstreamProtocolError,
)
from asgi_wasm.services.callouts.pool import Pool
from tests.driving import until
from tests.services.callouts.http1_server import OK, Calls, Writer, saying


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
            await until(lambda: [ref() for ref in left] == [None] * 3)
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
