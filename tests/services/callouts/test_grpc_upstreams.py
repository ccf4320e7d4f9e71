"""The gRPC service against servers that misbehave: what it costs, what it is told, and that nothing is left of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import platform
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
from h2.connection import H2Connection
from hyperframe.frame import Frame, GoAwayFrame, SettingsFrame

from asgi_wasm.host.abi import ProxyStatus
from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.host.effects import EndStreamCallouts, GrpcCall, GrpcStream
from asgi_wasm.host.vm import lifecycle
from asgi_wasm.host.vm.grpc_tokens import GrpcState, cost
from asgi_wasm.limits import PluginLimits
from asgi_wasm.services.callouts.grpc import calls as grpc_calls
from asgi_wasm.services.callouts.grpc import conversation as grpc_conversation
from asgi_wasm.services.callouts.grpc.calls import GrpcCalls
from asgi_wasm.services.callouts.grpc.channel import Channel
from asgi_wasm.services.callouts.grpc.conversation import Conversation
from asgi_wasm.services.callouts.grpc.fields import request_fields
from asgi_wasm.specs import UpstreamSpec
from tests.broken_grpc_server import BrokenServer, broken_grpc_server, deaf_server
from tests.driving import listening, settled, until
from tests.host.grpc_guest import Guest, carried_out_by
from tests.serving import free_port


@asynccontextmanager
async def running(url: str = "", how: dict[str, Any] | None = None, **guest: Any) -> AsyncIterator[_Setup]:
    """A broken server, the service and a guest; ``how`` the server is, and what the guest is made with."""
    async with broken_grpc_server(**(how or {})) as server:
        calls = GrpcCalls([UpstreamSpec("auth", url or server.url)])
        made = Guest(start=carried_out_by(calls), has_room=calls.has_room, may_send=calls.may_send, **guest)
        setup = _Setup(server, calls, made)
        yield setup
        await asyncio.wait_for(calls.close(), 60)


class _Setup:
    def __init__(self, server: BrokenServer, calls: GrpcCalls, guest: Guest) -> None:
        self.server, self.calls, self.guest = server, calls, guest

    def call(self, mode: str, timeout: int = 20_000) -> int:
        """The token of a call of this mode."""
        self.guest.method = mode.encode()
        status, token = self.guest.call(timeout=timeout)
        assert status == 0
        return token

    def stream(self, mode: str) -> int:
        """The token of a stream of this mode."""
        self.guest.method = mode.encode()
        return self.guest.stream()

    async def ended(self, token: int) -> tuple[str, int]:
        """How it ended: the name and the number of the last callback."""

        def found() -> list[tuple[str, int]]:
            is_call = token & 3 == 1
            names = ("receive", "close") if is_call else ("close",)
            return [(name, number) for name, of, number in self.guest.seen if of == token and name in names]

        await until(found)
        return found()[0]


@contextmanager
def turns(loop: asyncio.AbstractEventLoop) -> Iterator[list[int]]:
    """How often the event loop came round to something else."""
    count = [0]
    handle: list[asyncio.Handle] = []

    def tick() -> None:
        count[0] += 1
        handle[:] = [loop.call_soon(tick)]

    tick()
    yield count
    handle[0].cancel()


_MODES = (
    *("ok", "twice", "short", "status-5", "only-7", "endless", "http-503", "early-7", "late-8", "cut", "abort"),
    *("goaway-0", "graceful", "unserved", "garbage", "value-0d", "last-7f", "name-41", "fields-200", "wide-200000"),
    *("length-3", "length-x", "pings-200", "interim-200"),
)


def test_nothing_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """In asyncio's debug mode, and by reference counts alone."""

    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = 60
        async with running() as setup:
            made: list[weakref.ref[Conversation]] = []
            gc.collect()
            gc.disable()
            try:
                for mode in _MODES:
                    tokens = [setup.call(mode), setup.stream(mode)]
                    made += map(weakref.ref, setup.calls._conversations.values())
                    for token in tokens:
                        await setup.ended(token)
                setup.guest.act(lambda: setup.guest.ask("grpc_cancel", setup.stream("mute")))
                await settled()
                if platform.python_implementation() == "PyPy":
                    # It counts no references.
                    gc.collect()
                assert len(made) == 2 * len(_MODES)
                assert [ref for ref in made if ref() is not None] == []
            finally:
                gc.enable()
            assert not setup.calls.under_way and not setup.calls._conversations
            assert setup.guest.root.grpc_tokens.unsent == 0
            assert setup.calls._memory.held == 0
        own = [task for task in asyncio.all_tasks() if "_server" not in repr(task.get_coro())]
        assert own == [asyncio.current_task()]
        timers = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        assert timers == []

    with caplog.at_level(logging.WARNING):
        asyncio.run(main(), debug=True)
    assert [record for record in caplog.records if record.name == "asyncio"] == []
    assert "Traceback" not in caplog.text


async def test_a_call_that_has_ended_bothers_no_other_on_its_connection() -> None:
    async with running() as setup:
        stream = setup.stream("message")
        assert await until(lambda: ("receive", stream, 2) in setup.guest.seen)
        modes = ("early-7", "late-8", "value-0d", "last-7f", "name-41", "fields-200", "wide-62000", "short", "ok")
        for mode in modes:
            await setup.ended(setup.call(mode))
        assert setup.server.connections == 1
        assert not any(name == "close" and token == stream for name, token, _ in setup.guest.seen)


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
        await asyncio.sleep(0.02)
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


def test_over_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop", reason="the package uvloop is not there")

    async def main() -> None:
        async with running() as setup:
            for mode in _MODES:
                for token in (setup.call(mode), setup.stream(mode)):
                    await setup.ended(token)
            big = setup.stream("mute")
            for _ in range(50):
                setup.guest.send(big, b"x" * 1_000_000)
            await until(lambda: setup.guest.root.grpc_tokens.unsent == 0)
            flood = setup.stream("flood-10")
            assert await setup.ended(setup.call("ok")) == ("receive", 2)
            setup.guest.act(lambda: setup.guest.ask("grpc_cancel", flood))

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


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


async def test_a_flood_is_bounded_and_others_are_served() -> None:
    async with running() as setup:
        stream = setup.stream("flood-1000")
        flood = setup.call("flood-10", 1000)
        assert await until(lambda: ("receive", stream, 1000) in setup.guest.seen)
        for _ in range(10):
            assert await setup.ended(setup.call("ok")) == ("receive", 2)
        assert await setup.ended(flood) == ("close", 13)
        assert setup.calls._memory.held < 100_000
        assert setup.guest.act(lambda: setup.guest.ask("grpc_cancel", stream)) == 0


@pytest.mark.parametrize(("mode", "least"), [("many-3000", 3000), ("crumbs-3000", 1), ("interim-1000", 1)])
async def test_small_pieces_give_way(mode: str, least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # So short that each step is one.
    monkeypatch.setattr("asgi_wasm.services.callouts.slices.SLICE_SECONDS", 0.0)

    async with running() as setup:
        assert await setup.ended(setup.call("ok")) == ("receive", 2)
        with turns(asyncio.get_running_loop()) as count:
            stream = setup.stream(mode)
            assert await setup.ended(stream) == ("close", 0)
        received = [token for name, token, _ in setup.guest.seen if name == "receive" and token == stream]
        assert len(received) == least
        assert count[0] > 1000


async def test_unfinished_messages_are_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_conversation, "MAX_HELD_BYTES", 1_000_000)

    async with running() as setup:
        tokens = [setup.call("unfinished-600000") for _ in range(3)]
        await until(lambda: len(setup.guest.seen) >= 2)
        await asyncio.sleep(0.1)
        assert 0 < setup.calls._memory.held <= 1_000_000
        assert {number for name, _, number in setup.guest.seen if name == "close"} == {8}
        assert len({token for _, token, _ in setup.guest.seen}) < len(tokens)


@pytest.mark.parametrize("mode", ["unfinished-5000000", "huge"])
async def test_a_message_over_the_limit_is_not_waited_for(mode: str) -> None:
    async with running() as setup:
        assert await setup.ended(setup.call(mode)) == ("close", 8)
        assert setup.calls._memory.held == 0


@pytest.mark.parametrize("mode", ["wide-200000", "fields-3000"])
async def test_a_huge_header_block_costs_little(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="asgi_wasm"):
        async with running() as setup:
            assert await setup.ended(setup.call(mode)) == ("close", 14)
            assert await setup.ended(setup.call("ok")) == ("receive", 2)
    assert len(caplog.text) < 2000


async def test_what_a_plugin_sends_is_bounded() -> None:
    limits = PluginLimits(callback_call_bytes=1_000_000)
    async with running(how={"is_deaf": True}, limits=limits) as setup:
        stream = setup.stream("mute")
        piece = b"x" * 300_000
        statuses = [setup.guest.send(stream, piece) for _ in range(5)]
        assert statuses == [0, 0, 0, ProxyStatus.INTERNAL_FAILURE, ProxyStatus.INTERNAL_FAILURE]
        # What the server takes makes room.
        await until(lambda: setup.server.open)
        (connection,) = setup.server.open
        connection.transport.resume_reading()
        await until(lambda: setup.guest.root.grpc_tokens.unsent == 0)
        await until(lambda: [len(got) for got in setup.server.got] == [3 * (5 + len(piece))])
        assert setup.guest.send(stream, piece, is_last=True) == 0


async def test_what_all_plugins_send_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_calls, "MAX_UNSENT_BYTES", 1_000_000)

    async with running(how={"is_deaf": True}) as setup:
        guests = [setup.guest, Guest(start=carried_out_by(setup.calls), may_send=setup.calls.may_send)]
        for guest in guests:
            guest.method = b"mute"
        streams = [guest.stream() for guest in guests]
        statuses = [
            guest.send(stream, bytes(400_000)) for _ in range(2) for guest, stream in zip(guests, streams, strict=True)
        ]
        assert statuses == [0, 0, ProxyStatus.INTERNAL_FAILURE, ProxyStatus.INTERNAL_FAILURE]
        # A call's message too; and what is cancelled makes room.
        guests[1].method = b"mute"
        assert guests[1].call()[0] == 0
        assert setup.guest.act(lambda: setup.guest.ask("grpc_cancel", streams[0])) == 0
        await until(lambda: setup.calls._memory.unsent < 500_000)
        assert guests[1].send(streams[1], bytes(400_000)) == 0
    assert setup.calls._memory.unsent == 0


async def test_calls_of_an_upstream_are_bounded_over_all_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_calls, "MAX_CALLS", 3)

    async with running() as setup:
        for _ in range(3):
            setup.call("mute")
        other = lifecycle.start_root(setup.guest.vm, setup.guest.spec, b"")
        store, result = setup.guest.host.store, setup.guest.host.allocate(4)
        texts = (*store(b"auth"), *store(b"t"), *store(b"ok"), 0, 0)
        ask = lambda: setup.guest.ask("grpc_stream", *texts, result)  # noqa: E731
        assert setup.guest.act(ask, other) == ProxyStatus.INTERNAL_FAILURE
        setup.guest.act(lambda: setup.guest.ask("grpc_cancel", 5))
        assert setup.guest.act(ask, other) == 0


async def test_what_is_asked_for_in_one_callback_beyond_the_bound_overflows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_calls, "MAX_CALLS", 3)

    async with running() as setup:
        store, result = setup.guest.host.store, setup.guest.host.allocate(4)
        texts = (*store(b"auth"), *store(b"t"), *store(b"ok"), 0, 0)
        setup.guest.act(lambda: sum(setup.guest.ask("grpc_stream", *texts, result) for _ in range(5)))
        ends = [await setup.ended(token) for token in (6, 10, 14, 18, 22)]
        assert ends == [("close", 0)] * 3 + [("close", 14)] * 2


async def test_a_client_that_leaves_ends_what_its_request_asked_for_and_nothing_else() -> None:
    async with running() as setup:
        root = setup.guest.root
        ends = EndStreamCallouts(root, 7)
        tokens = [setup.call("mute"), setup.stream("message")]
        for token, stream_id in ((101, 7), (105, 8)):
            root.grpc_tokens.begin(token, GrpcState.HALF_CLOSED)
            root.grpc_tokens.unsent += cost(b"hi")
            setup.calls.start(GrpcCall(root, token, "auth", "/t/mute", [], b"hi", 60_000, stream_id))
        root.grpc_tokens.begin(102, GrpcState.OPEN)
        setup.calls.start(GrpcStream(root, 102, "auth", "/t/message", [], 7))
        await until(lambda: len(setup.server.asked) == 5)
        await until(lambda: sum(name == "receive" for name, _, _ in setup.guest.seen) == 2)
        setup.calls.leave(ends)
        setup.calls.leave(ends)
        assert await setup.ended(101) == ("close", 1)
        await until(lambda: ("close", 102, 1) in setup.guest.seen)
        await until(lambda: setup.server.reset == 2)
        assert len(setup.calls._conversations) == 3 and len(setup.calls._by_stream._found) == 1
        assert not {token for name, token, _ in setup.guest.seen if name == "close"} & {*tokens, 105}
    assert setup.calls._by_stream._found == {}


async def test_a_cancelled_call_is_reset() -> None:
    async with running() as setup:
        tokens = [setup.call("mute"), setup.stream("message"), setup.call("mute", 200)]
        await until(lambda: len(setup.server.asked) == 3)
        for token in tokens[:2]:
            assert setup.guest.act(lambda token=token: setup.guest.ask("grpc_cancel", token)) == 0  # type: ignore[misc]
        await until(lambda: setup.server.reset == 3)
        assert await setup.ended(tokens[2]) == ("close", 14)
        assert await setup.ended(setup.call("ok")) == ("receive", 2)
        assert setup.server.connections == 1


async def test_stop_does_not_wait_for_a_server_that_reads_nothing() -> None:
    async with running(how={"is_deaf": True}) as setup:
        for _ in range(20):
            setup.guest.send(setup.stream("mute"), b"x" * 1_000_000)
        setup.call("mute")
        await until(lambda: setup.server.connections)
        await settled()


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.0001, b"1m"),
        (1.5, b"1500m"),
        (99_999.999, b"99999999m"),
        (100_000, b"100000S"),
        (4_294_967.295, b"4294967S"),
        (99_999_999, b"99999999S"),
        (100_000_000, b"1666666M"),
        (6e9, b"1666666H"),
        (1e12, b"99999999H"),
    ],
)
def test_how_a_server_is_told_of_a_timeout(seconds: float, told: bytes) -> None:
    effect = GrpcStream(Guest().root, 6, "auth", "/t/ok", [])
    fields = request_fields(effect, UpstreamSpec("auth", "http://a"), seconds)
    assert dict(fields)[b"grpc-timeout"] == told


async def test_a_long_timeout_is_one() -> None:
    async with running() as setup:
        assert await setup.ended(setup.call("ok", 0xFFFF_FFFF)) == ("receive", 2)
        assert dict(setup.server.asked[-1])[b"grpc-timeout"] == b"4294967S"


async def test_fields_are_sent_as_they_are() -> None:
    async with running() as setup:
        pairs = [
            (b"X-High", b"\xff"),
            (b"x-tab", b" a\tb "),
            (b"x-bin", b"\x00\xfe"),
            (b"authorization", b"secret"),
        ]
        setup.guest.method = b"ok-\xe4\xff"
        assert setup.guest.call(metadata=encode_pairs(pairs))[0] == 0
        await until(lambda: setup.server.asked)
        assert setup.server.asked[0] == [
            *[(b":method", b"POST"), (b":path", b"/test.Auth/ok-\xe4\xff")],
            *[(b":authority", setup.server.url.removeprefix("http://").encode()), (b":scheme", b"http")],
            *[(b"te", b"trailers"), (b"content-type", b"application/grpc")],
            *[(b"x-high", b"\xff"), (b"x-tab", b" a\tb "), (b"x-bin", b"AP4="), (b"authorization", b"secret")],
        ]


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
