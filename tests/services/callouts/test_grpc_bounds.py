"""What gRPC servers and plugins send without end: it is bounded, and others have their turn."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from asgi_wasm.host.abi import ProxyStatus
from asgi_wasm.host.vm import lifecycle
from asgi_wasm.limits import PluginLimits
from asgi_wasm.services.callouts.grpc import calls as grpc_calls
from asgi_wasm.services.callouts.grpc import conversation as grpc_conversation
from tests.driving import settled, until
from tests.host.grpc_guest import Guest, carried_out_by
from tests.services.callouts.grpc_setup import running


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
        await until(lambda: any(name == "close" for name, *_ in setup.guest.seen))
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


async def test_stop_does_not_wait_for_a_server_that_reads_nothing() -> None:
    async with running(how={"is_deaf": True}) as setup:
        for _ in range(20):
            setup.guest.send(setup.stream("mute"), b"x" * 1_000_000)
        setup.call("mute")
        await until(lambda: setup.server.connections)
        await settled()
