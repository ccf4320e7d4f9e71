"""Connections to gRPC servers: when another one is made, when none, and how they end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

import pytest
from h2.connection import H2Connection
from hyperframe.frame import Frame, GoAwayFrame, SettingsFrame

from asgi_wasm.services.callouts.grpc.channel import Channel
from tests.broken_grpc_server import broken_grpc_server, deaf_server
from tests.driving import listening, settled, until
from tests.services.callouts.grpc_setup import running
from tests.serving import free_port


async def test_a_dead_upstream_is_tried_for_calls_only() -> None:
    async with running() as setup:
        assert await setup.ended(setup.call("abort")) == ("close", 14)
        assert setup.server.connections == 1
        # Longer than any client waits before it tries again by itself.
        await asyncio.sleep(1.5)
        assert setup.server.connections == 1
        assert await setup.ended(setup.call("ok")) == ("receive", 2)
        assert setup.server.connections == 2


async def test_calls_share_one_try_to_connect() -> None:
    async with running(f"http://127.0.0.1:{free_port()}") as setup:
        tokens = [setup.call("ok") for _ in range(50)] + [setup.stream("ok") for _ in range(50)]
        assert {await setup.ended(token) for token in tokens} == {("close", 14)}


@pytest.mark.parametrize("most", [1, 3])
async def test_a_server_that_takes_few_streams_gets_more_connections(most: int) -> None:
    async with running(how={"most_streams": most}) as setup:
        assert await setup.ended(setup.call("ok")) == ("receive", 2)
        streams = [setup.stream("message") for _ in range(7)]
        assert await until(lambda: all(("receive", stream, 2) in setup.guest.seen for stream in streams))
        assert setup.server.connections == -(-7 // most)
        # When they are over, one connection is kept.
        for stream in streams:
            setup.guest.act(lambda stream=stream: setup.guest.ask("grpc_cancel", stream))  # type: ignore[misc]
        assert await until(lambda: len(setup.server.open) == 1)
        assert await setup.ended(setup.call("ok")) == ("receive", 2)


async def test_a_server_that_takes_no_stream_is_not_connected_to_again_and_again() -> None:
    async with running(how={"most_streams": 0}) as setup:
        # Of the first connection nothing is known before the first call.
        assert await setup.ended(setup.call("ok", 300)) == ("close", 14)
        assert await setup.ended(setup.call("ok", 300)) == ("close", 14)
        assert setup.server.connections <= 2


@pytest.mark.parametrize("first", [SettingsFrame(0), GoAwayFrame(0, last_stream_id=2**31 - 1)], ids=["gone", "goodbye"])
async def test_a_connection_that_ends_before_it_carried_a_call_is_no_reason_for_another(
    monkeypatch: pytest.MonkeyPatch, first: Frame
) -> None:
    """As where the event loop is busy while the connection is made."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(first.serialize())
        if isinstance(first, SettingsFrame):
            writer.close()
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    serve_soon = Channel._serve_soon

    def serve_late(channel: Channel) -> None:
        asyncio.get_running_loop().call_later(0.02, serve_soon, channel)

    monkeypatch.setattr(Channel, "_serve_soon", serve_late)
    async with listening(serve) as port, running(f"http://127.0.0.1:{port}") as setup:
        tokens = [setup.call("ok", 0), setup.stream("ok")]
        assert {await setup.ended(token) for token in tokens} == {("close", 14)}
        assert connections == 1


async def test_goodbye_lets_calls_end_and_the_next_goes_elsewhere() -> None:
    async with running() as setup:
        first = setup.call("graceful")
        assert await until(lambda: setup.server.asked)
        [connection] = setup.server.open
        connection.ping()
        await until(lambda: setup.server.pongs)
        second = setup.call("ok")
        assert await setup.ended(first) == ("receive", 2)
        assert await setup.ended(second) == ("receive", 2)
        assert setup.server.connections == 2


@pytest.mark.parametrize("is_seen", [False, True], ids=["seen-later", "seen-while-connecting"])
async def test_a_server_that_hangs_up_at_once(monkeypatch: pytest.MonkeyPatch, is_seen: bool) -> None:
    dial = Channel._dial

    async def dial_and_lose(channel: Channel) -> Any:
        connection = await dial(channel)
        await connection.lost
        return connection

    async with running(how={"hangs_up": True}) as setup:
        if is_seen:
            monkeypatch.setattr(Channel, "_dial", dial_and_lose)
        for _ in range(5):
            tokens = [setup.call("ok", 0), setup.stream("ok")]
            assert {await setup.ended(token) for token in tokens} == {("close", 14)}
        assert setup.server.connections <= 5
        monkeypatch.undo()
        setup.server.hangs_up = False
        assert await setup.ended(setup.call("ok")) == ("receive", 2)


async def test_a_connection_that_has_had_its_streams_makes_way_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    # HTTP/2 numbers them up to 2**31 - 1, by twos.
    monkeypatch.setattr(H2Connection, "HIGHEST_ALLOWED_STREAM_ID", 5)

    async with running() as setup:
        ends = [await setup.ended(setup.call("ok")) for _ in range(8)]
        assert ends == [*[("receive", 2)] * 3, ("close", 14)] * 2
        assert setup.server.connections == 2


async def test_goodbye_while_many_are_cancelled() -> None:
    async with running() as setup:
        streams = [setup.stream("mute") for _ in range(30)]
        await until(lambda: len(setup.server.asked) == 30)
        # The first that is told of it cancels another one.
        setup.guest.todo = lambda: setup.guest.ask("grpc_cancel", streams[20])
        (connection,) = setup.server.open
        connection.transport.write(GoAwayFrame(0, last_stream_id=9).serialize())
        assert await setup.ended(streams[-1]) == ("close", 14)
        await settled()
        closed = [token for name, token, _ in setup.guest.seen if name == "close"]
        assert closed == [token for token in streams[5:] if token != streams[20]]
        assert await setup.ended(setup.call("ok")) == ("receive", 2)
        assert setup.server.connections == 2


async def test_a_server_without_tls(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG, logger="asgi_wasm"):
        async with broken_grpc_server() as plain, running(f"https://127.0.0.1:{plain.port}") as setup:
            assert await setup.ended(setup.call("ok")) == ("close", 14)
            assert await setup.ended(setup.stream("ok")) == ("close", 14)
    assert "gRPC upstream 'auth': failed to connect to 127.0.0.1:" in caplog.text
    assert "Traceback" not in caplog.text and capfd.readouterr().err == ""


async def test_a_connection_that_takes_too_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asgi_wasm.services.callouts.connector.CONNECT_TIMEOUT", 0.2)
    # The handshake is never answered.
    with caplog.at_level(logging.INFO), deaf_server() as deaf:
        async with running(f"https://127.0.0.1:{deaf}") as setup:
            assert await setup.ended(setup.call("ok", 0)) == ("close", 14)
    assert "no connection within 0.2 s" in caplog.text


async def test_stop_while_it_connects() -> None:
    with deaf_server() as deaf:
        async with running(f"https://127.0.0.1:{deaf}") as setup:
            setup.call("ok", 0)
            await settled()
        assert setup.guest.seen == []
