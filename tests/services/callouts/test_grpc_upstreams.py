"""Calls to gRPC servers that misbehave: what they are told, how they end, and that nothing is left of them."""

from __future__ import annotations

import asyncio
import gc
import logging
import platform
import weakref

import pytest

from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.host.effects import EndStreamCallouts, GrpcCall, GrpcStream
from asgi_wasm.host.vm.grpc_tokens import GrpcState, cost
from asgi_wasm.services.callouts.grpc.conversation import Conversation
from asgi_wasm.services.callouts.grpc.fields import request_fields
from asgi_wasm.specs import UpstreamSpec
from tests.driving import settled, until
from tests.host.grpc_guest import Guest
from tests.services.callouts.grpc_setup import running

MODES = (
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
                for mode in MODES:
                    tokens = [setup.call(mode), setup.stream(mode)]
                    made += map(weakref.ref, setup.calls._conversations.values())
                    for token in tokens:
                        await setup.ended(token)
                setup.guest.act(lambda: setup.guest.ask("grpc_cancel", setup.stream("mute")))
                await settled()
                if platform.python_implementation() == "PyPy":
                    # It counts no references.
                    gc.collect()
                assert len(made) == 2 * len(MODES)
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


def test_over_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop", reason="the package uvloop is not there")

    async def main() -> None:
        async with running() as setup:
            for mode in MODES:
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
