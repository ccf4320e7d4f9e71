"""Connections of HTTP/2 to upstreams: shared by calls, and what one call does or suffers is no other's affair."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame, SettingsFrame

from asgi_wasm.services.callouts.connector import Connector
from asgi_wasm.services.callouts.http2 import _TURN_FRAMES
from asgi_wasm.services.callouts.http2_frames import Frame, Frames
from asgi_wasm.services.callouts.messages import (
    Answer,
    AnswerTooLargeError,
    CalloutError,
    ConnectError,
    ConnectionLostError,
    Request,
    StreamResetError,
    UpstreamProtocolError,
)
from asgi_wasm.services.callouts.pool import Pool
from asgi_wasm.services.callouts.shared_pool import SharedPool
from asgi_wasm.services.callouts.turns import _SLICE_PIECES, Turns
from tests.driving import listening, until
from tests.serving import free_port

OK = [(b":status", b"200")]


class Served(asyncio.Protocol):
    """One connection at the server; ``serve`` is called with each whole request: stream and path."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.h2 = H2Connection(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.paths: dict[int, bytes] = {}
        self.sizes: dict[int, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections.append(self)
        values = {SettingCodes.MAX_CONCURRENT_STREAMS: self.server.max_streams}
        self.h2.local_settings = Settings(client=False, initial_values=values)
        self.h2.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived) and event.stream_id and event.headers:
                self.paths[event.stream_id] = path = dict(event.headers)[b":path"]
                if path.startswith(b"/early"):
                    self.server.serve(self, event.stream_id, path)
            elif isinstance(event, DataReceived) and self.paths[event.stream_id or 0].startswith(b"/early"):
                # Neither read, nor made room for.
                continue
            elif isinstance(event, DataReceived) and event.stream_id:
                self.sizes[event.stream_id] = self.sizes.get(event.stream_id, 0) + len(event.data or b"")
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            elif isinstance(event, StreamEnded) and event.stream_id:
                self.server.serve(self, event.stream_id, self.paths[event.stream_id])
            elif isinstance(event, StreamReset):
                self.server.resets.append(int(event.error_code or 0))
        self.flush()

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())

    def answer(self, stream: int, body: bytes = b"ok", headers: list[tuple[bytes, bytes]] = OK) -> None:
        self.h2.send_headers(stream, headers)
        self.h2.send_data(stream, body, end_stream=True)
        self.flush()


class Server:
    def __init__(self, serve: Callable[[Served, int, bytes], None], max_streams: int = 100) -> None:
        self.serve = serve
        self.max_streams = max_streams
        self.connections: list[Served] = []
        self.resets: list[int] = []

    async def __aenter__(self) -> Server:
        self._server = await asyncio.get_running_loop().create_server(lambda: Served(self), "127.0.0.1", 0)
        self.pool = pool(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.close()
        self._server.close()
        for served in self.connections:
            served.transport.abort()
        await asyncio.sleep(0)

    async def get(self, path: str = "/", body: bytes = b"", limit: int = 1 << 24) -> bytes:
        return await call(self.pool, path, body, limit)


def pool(port: int) -> SharedPool:
    turns, connector = Turns(), Connector("127.0.0.1", port, None)
    return SharedPool(connector, Pool(connector, turns), turns)


async def call(shared: SharedPool, path: str = "/", body: bytes = b"", limit: int = 1 << 24) -> bytes:
    headers = [(b"host", b"up.test"), *([(b"content-length", b"%d" % len(body))] if body else [])]
    answer = Answer(limit)
    await shared.exchange(Request(b"POST" if body else b"GET", path.encode(), headers, body), answer)
    assert answer.headers is not None
    return bytes(answer.body)


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


async def test_a_server_that_reads_no_replies_gets_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings without end, each of which asks for one."""
    monkeypatch.setattr("asgi_wasm.services.callouts.http2._MAX_UNSENT", 1 << 16)
    # They are a flood besides, for which the connection would be closed, if the kernel took many replies first.
    monkeypatch.setattr("asgi_wasm.services.callouts.http2_frames._MOST_USELESS", 1 << 30)
    holds_little = asyncio.Event()

    def hold_little(transport: asyncio.BaseTransport, option: int) -> None:
        """Else the kernel takes megabytes, which are some hundred thousand pings."""
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 4096)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hold_little(writer.transport, socket.SO_RCVBUF)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(bytes.fromhex("000000040000000000"))
        await holds_little.wait()
        while not writer.transport.is_closing():
            writer.write(bytes.fromhex("0000080600000000000000000000000000") * 5000)
            await asyncio.sleep(0)
            await writer.drain()

    async with listening(serve) as port:
        shared = pool(port)
        asked = asyncio.ensure_future(call(shared))
        await until(lambda: shared._shared)
        connection = next(iter(shared._shared))
        assert connection._transport is not None
        hold_little(connection._transport, socket.SO_SNDBUF)
        holds_little.set()
        await until(lambda: connection._is_clogged)
        # The kernel may take some of them even now, which makes room for as many.
        for _ in range(200):
            await asyncio.sleep(0.0005)
            assert connection._transport.get_write_buffer_size() < 5 << 14
            assert len(connection._unparsed) < 1 << 20
        asked.cancel()
        await asyncio.wait([asked])
        await shared.close()


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
    def serve(served: Served, stream: int, path: bytes) -> None:
        if path == b"/first":
            # GOAWAY by hand: to h2 nothing could follow.
            served.transport.write(b"\0\0\x08\x07\0\0\0\0\0" + stream.to_bytes(4, "big") + bytes(4))
            asyncio.get_running_loop().call_later(0.05, served.answer, stream)
        else:
            served.answer(stream)

    async with Server(serve) as server:
        first = asyncio.ensure_future(server.get("/first"))
        await until(lambda: b"/first" in (path for served in server.connections for path in served.paths.values()))
        # What it wrote then is read in the next iterations.
        await asyncio.sleep(0.02)
        assert await server.get() == b"ok"
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


async def test_others_have_their_turn_while_empty_frames_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that say nothing, without end: they neither hold the loop nor the call's end."""
    taken, following = 0, Frames.next

    def counted(self: Frames) -> Frame | None:
        nonlocal taken
        taken += 1
        return following(self)

    monkeypatch.setattr(Frames, "next", counted)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Settings, then window updates of one byte.
        writer.write(bytes.fromhex("000000040000000000"))
        while not writer.transport.is_closing():
            writer.write(bytes.fromhex("00000408000000000000000001") * 2000)
            await asyncio.sleep(0)
            await writer.drain()

    async with listening(serve) as port:
        shared = pool(port)
        asked, iterations = asyncio.ensure_future(call(shared)), 0
        while taken < 5000 and not asked.done():
            iterations += 1
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
        # One turn, and as many more as nobody else wants; a turn ends by looking for one frame more at most.
        assert taken <= iterations * (1 + _SLICE_PIECES) * (1 + _TURN_FRAMES)
        await shared.close()


@pytest.mark.parametrize("frame", ["00000408000000000000000001", "000000770000000000", "0000050200000000010000000310"])
async def test_a_connection_that_is_flooded_is_not_used_again(monkeypatch: pytest.MonkeyPatch, frame: str) -> None:
    """Window updates, frames of an unknown kind, priorities: the calls after it are not to wait behind them."""
    monkeypatch.setattr("asgi_wasm.services.callouts.http2_frames._MOST_USELESS", 100)

    def serve(served: Served, stream: int, path: bytes) -> None:
        if path == b"/":
            served.answer(stream)
        else:
            served.transport.write(bytes.fromhex(frame) * 1000)

    async with Server(serve) as server:
        assert await server.get() == b"ok"
        with pytest.raises(UpstreamProtocolError, match="frames came that are no part of any answer"):
            await server.get("/flood")
        assert await server.get() == b"ok"
        assert len(server.connections) == 2


async def test_frames_between_the_pieces_of_long_answers_are_no_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.services.callouts.http2_frames._MOST_USELESS", 100)

    def serve(served: Served, stream: int, path: bytes) -> None:
        served.h2.send_headers(stream, OK)
        for _ in range(100):
            served.flush()
            served.transport.write(bytes.fromhex("00000408000000000000000001") * 50)
            served.h2.send_data(stream, b"x")
        served.h2.end_stream(stream)
        served.flush()

    async with Server(serve) as server:
        assert await server.get() == b"x" * 100
        assert await server.get(body=b"y" * 300_000) == b"x" * 100
        assert len(server.connections) == 1


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
