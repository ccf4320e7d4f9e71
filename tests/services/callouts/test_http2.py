"""Connections of HTTP/2 to upstreams: shared by calls, and what one call does or suffers is no other's affair."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame, SettingsFrame

from asgi_wasm.services.callouts.messages import (
    AnswerTooLargeError,
    CalloutError,
    ConnectError,
    ConnectionLostError,
    StreamResetError,
    UpstreamProtocolError,
)
from tests.driving import listening, until
from tests.services.callouts.http2_server import OK, Served, Server, call, pool
from tests.serving import free_port


async def test_calls_share_connections_as_far_as_the_server_allows() -> None:
    waiting: list[tuple[Served, int]] = []

    def serve(served: Served, stream: int, path: bytes) -> None:
        waiting.append((served, stream))
        if len(waiting) == 10:
            for served, stream in reversed(waiting):
                served.answer(stream, served.paths[stream])

    async with Server(serve, max_streams=4) as server:
        answers = await asyncio.gather(*(server.get(f"/{index}") for index in range(10)))
        assert answers == [b"/%d" % index for index in range(10)]
        assert len(server.connections) == 3


async def test_call_that_is_given_up_ends_alone() -> None:
    def serve(served: Served, stream: int, path: bytes) -> None:
        if path != b"/mute":
            served.answer(stream)

    async with Server(serve) as server:
        mute = asyncio.ensure_future(server.get("/mute"))
        await until(lambda: server.connections and server.connections[0].paths)
        assert await server.get() == b"ok"
        mute.cancel()
        with pytest.raises(asyncio.CancelledError):
            await mute
        await until(lambda: server.resets == [8])
        # What the server says to it later is nobody's, and takes no room from the others.
        served = server.connections[0]
        assert await asyncio.gather(*(server.get() for _ in range(5))) == [b"ok"] * 5
        assert len(server.connections) == 1 and served.paths[1] == b"/mute"


async def test_bodies_larger_than_the_windows() -> None:
    def serve(served: Served, stream: int, path: bytes) -> None:
        served.answer(stream, b"%d" % served.sizes[stream])

    async with Server(serve) as server:
        assert await server.get("/", bytes(3_000_000)) == b"3000000"


@pytest.mark.parametrize("end", ["answer", "reset", "goaway"])
async def test_a_call_that_ends_before_its_body_was_read_waits_for_no_window(end: str) -> None:
    def serve(served: Served, stream: int, path: bytes) -> None:
        if path == b"/ok" or end == "answer":
            asyncio.get_running_loop().call_later(0.05, served.answer, stream)
        elif end == "reset":
            asyncio.get_running_loop().call_later(0.05, reset, served, stream)
        else:
            served.transport.write(b"\0\0\x08\x07\0\0\0\0\0" + bytes(8))

    def reset(served: Served, stream: int) -> None:
        served.h2.reset_stream(stream, 7)
        served.flush()

    async with Server(serve) as server:
        asked = server.get("/early", bytes(1_000_000))
        if end == "answer":
            assert await asyncio.wait_for(asked, 60) == b"ok"
        else:
            with pytest.raises(StreamResetError if end == "reset" else ConnectionLostError):
                await asyncio.wait_for(asked, 60)
        assert await server.get("/ok") == b"ok"


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda served, stream: served.h2.reset_stream(stream, 7), StreamResetError),
        (lambda served, stream: served.answer(stream, headers=[*OK, (b"x-bad", b"a\0b")]), UpstreamProtocolError),
        (lambda served, stream: served.answer(stream, headers=[(b":status", b"2OO")]), UpstreamProtocolError),
        (lambda served, stream: served.answer(stream, headers=[*OK, (b":path", b"/")]), UpstreamProtocolError),
        (lambda served, stream: served.answer(stream, headers=[*OK, (b"upgrade", b"x")]), UpstreamProtocolError),
        (lambda served, stream: trailers(served, stream, (b":status", b"200")), UpstreamProtocolError),
        (lambda served, stream: trailers(served, stream, (b"content-length", b"3")), UpstreamProtocolError),
        (lambda served, stream: served.answer(stream, bytes(2000)), AnswerTooLargeError),
        (lambda served, stream: pieces(served, stream), UpstreamProtocolError),
        (lambda served, stream: interim(served, stream), UpstreamProtocolError),
    ],
    ids=[
        *("reset", "bad-header", "bad-status", "pseudo-header", "of-a-connection", "pseudo-trailer", "other-length"),
        *("too-large", "tiny-pieces", "interim"),
    ],
)
async def test_bad_answer_is_no_other_calls_affair(
    end: Callable[[Served, int], None], error: type[CalloutError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_wasm.services.callouts.messages._FREE_PIECES", 50)

    held: list[tuple[Served, int]] = []

    def serve(served: Served, stream: int, path: bytes) -> None:
        if path == b"/held":
            held.append((served, stream))
        elif path == b"/bad":
            end(served, stream)
        else:
            served.answer(stream)

    async with Server(serve) as server:
        first = asyncio.ensure_future(server.get("/held"))
        await until(lambda: held)
        with pytest.raises(error):
            await server.get("/bad", limit=1000)
        assert await server.get() == b"ok"
        served, stream = held[0]
        served.answer(stream)
        assert await first == b"ok"
        assert len(server.connections) == 1


def trailers(served: Served, stream: int, *fields: tuple[bytes, bytes]) -> None:
    served.h2.send_headers(stream, OK)
    served.h2.send_data(stream, b"ok")
    served.h2.send_headers(stream, [*fields], end_stream=True)


def pieces(served: Served, stream: int) -> None:
    served.h2.send_headers(stream, OK)
    for _ in range(100):
        served.h2.send_data(stream, b"x")


def interim(served: Served, stream: int) -> None:
    for _ in range(101):
        served.h2.send_headers(stream, [(b":status", b"103")])


async def test_server_that_goes_away_ends_what_it_has_begun() -> None:
    begun: list[tuple[Served, int]] = []

    def serve(served: Served, stream: int, path: bytes) -> None:
        if path == b"/first":
            # GOAWAY by hand: to h2 nothing could follow.
            served.transport.write(b"\0\0\x08\x07\0\0\0\0\0" + stream.to_bytes(4, "big") + bytes(4))
            begun.append((served, stream))
        else:
            served.answer(stream)

    async with Server(serve) as server:
        first = asyncio.ensure_future(server.get("/first"))
        await until(lambda: begun)
        [(served, stream)] = begun
        await served.read()
        assert await server.get() == b"ok"
        served.answer(stream)
        assert await first == b"ok"
        assert len(server.connections) == 2


async def test_connection_that_ends_takes_its_calls_along() -> None:
    def serve(served: Served, stream: int, path: bytes) -> None:
        if path == b"/last":
            served.transport.close()
        elif path == b"/ok":
            served.answer(stream)

    async with Server(serve) as server:
        results = await asyncio.gather(server.get("/a"), server.get("/last"), return_exceptions=True)
        assert [type(result) for result in results] == [ConnectionLostError] * 2
        assert await server.get("/ok") == b"ok"


async def test_no_server_fails_all_that_wait_at_once() -> None:
    shared = pool(free_port())
    results = await asyncio.gather(*(call(shared) for _ in range(20)), return_exceptions=True)
    assert {type(result) for result in results} == {ConnectError}
    await shared.close()


async def serving(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> type[CalloutError]:
    """What a call to such a server raises."""
    async with listening(serve) as port:
        shared = pool(port)
        with pytest.raises(CalloutError) as raised:
            await call(shared)
        await shared.close()
    return raised.type


async def test_server_of_http1() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    assert await serving(serve) is UpstreamProtocolError


async def test_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.services.callouts.shared_pool.CONNECT_TIMEOUT", 0.1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.close()

    assert issubclass(await serving(serve), ConnectError)


_SETTINGS, _TAKES_NONE = bytes(SettingsFrame(0).serialize()), bytes(SettingsFrame(0, settings={3: 0}).serialize())
_GOODBYE = bytes(GoAwayFrame(0, last_stream_id=0).serialize())
_GOODBYE_LATER = bytes(GoAwayFrame(0, last_stream_id=2**31 - 1).serialize())


@pytest.mark.parametrize(
    ("first", "hangs_up"),
    [
        (_SETTINGS + _GOODBYE, False),
        (_SETTINGS + _GOODBYE_LATER, False),
        (_SETTINGS + _GOODBYE, True),
        (_SETTINGS, True),
        (_TAKES_NONE, True),
    ],
    ids=["goodbye", "goodbye-later", "goodbye-and-gone", "gone", "no-calls-and-gone"],
)
async def test_a_server_that_ends_each_connection_before_a_call_is_not_connected_to_again_and_again(
    first: bytes, hangs_up: bool
) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(first)
        if not hangs_up:
            with suppress(ConnectionError):
                await reader.read()
        writer.close()

    async with listening(serve) as port:
        shared = pool(port)
        answers = await asyncio.gather(*(call(shared) for _ in range(5)), return_exceptions=True)
        assert {type(each) for each in answers} == {ConnectionLostError}
        # What was begun may be lost before the others are sent.
        assert connections <= 5
        await shared.close()


async def test_a_server_that_takes_no_call_is_waited_for() -> None:
    def serve(served: Served, stream: int, path: bytes) -> None:
        served.answer(stream)

    async with Server(serve, max_streams=0) as server:
        asked = [asyncio.ensure_future(server.get()) for _ in range(5)]
        await until(lambda: server.connections)
        for _ in range(100):
            await asyncio.sleep(0)
        asked[0].cancel()
        assert len(server.connections) == 1
        server.connections[0].h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 2})
        server.connections[0].flush()
        assert await asyncio.gather(*asked[1:]) == [b"ok"] * 4
        # Two at a time: for the others there was another connection.
        assert len(server.connections) <= 2
