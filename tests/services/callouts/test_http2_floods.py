"""Servers of HTTP/2 that send without end: what they are answered is bounded, and others have their turn."""

from __future__ import annotations

import asyncio
import socket

import pytest

from asgi_wasm.services.callouts.http2 import _TURN_FRAMES
from asgi_wasm.services.callouts.http2_frames import Frame, Frames
from asgi_wasm.services.callouts.messages import (
    UpstreamProtocolError,
)
from asgi_wasm.services.callouts.turns import _SLICE_PIECES
from tests.driving import listening, until
from tests.services.callouts.http2_server import OK, Served, Server, call, pool


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
