"""The parts of the gRPC client that need no network: frames, messages, and a connection that is fed anything."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_wasm.host.codecs.wire import Pairs
from asgi_wasm.host.effects import GrpcStream
from asgi_wasm.host.vm.grpc_tokens import GrpcTokens, cost
from asgi_wasm.services.callouts.grpc.connection import Connection
from asgi_wasm.services.callouts.grpc.conversation import Conversation
from asgi_wasm.services.callouts.grpc.fields import MAX_FIELD_BYTES, fault, request_fields
from asgi_wasm.services.callouts.grpc.messages import (
    BrokenMessageError,
    Memory,
    MessageDecoder,
    Outgoing,
    TooLargeMessageError,
)
from asgi_wasm.services.callouts.http2_frames import (
    MAX_BLOCK_BYTES,
    MAX_FRAME_BYTES,
    BrokenFramesError,
    Frames,
    PlainEncoder,
)
from asgi_wasm.specs import UpstreamSpec
from tests.broken_grpc_answers import message
from tests.broken_grpc_server import BrokenServer
from tests.broken_grpc_server import Connection as ServerConnection
from tests.host.grpc_guest import Guest
from tests.waiting import until

MESSAGES = st.lists(st.binary(max_size=40), max_size=8)


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The data, cut into these sizes; the rest in one."""
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


@given(MESSAGES, st.lists(st.integers(0, 20)))
def test_messages_come_whole_however_they_are_cut(messages: list[bytes], sizes: list[int]) -> None:
    decoder = MessageDecoder(40)
    data = b"".join(map(message, messages))
    assert [each for piece in pieces(data, sizes) for each in decoder.feed(piece)] == messages
    assert decoder.held == 0


@given(MESSAGES, st.lists(st.integers(0, 60)))
def test_messages_go_out_whole_however_they_are_taken(messages: list[bytes], sizes: list[int]) -> None:
    tokens, memory = GrpcTokens(), Memory()
    tokens.unsent = sum(map(cost, messages))
    outgoing = Outgoing(tokens, memory)
    for each in messages:
        outgoing.add(each)
    outgoing.end()
    taken = [outgoing.take(size) for size in (*sizes, 10_000, 10_000)]
    assert b"".join(data for data, _ in taken) == b"".join(map(message, messages))
    assert all(len(data) <= size for (data, _), size in zip(taken, sizes, strict=False))
    assert taken[-1][1] and not outgoing.has_more
    assert tokens.unsent == 0


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (message(b"x", flag=1), BrokenMessageError),
        (b"\x02", BrokenMessageError),
        (b"\xff", BrokenMessageError),
        (message(b"", size=41), TooLargeMessageError),
        (message(b"ok") + b"\x02", BrokenMessageError),
    ],
)
def test_broken_messages(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        MessageDecoder(40).feed(data)


def frame(kind: int, flags: int, payload: bytes) -> bytes:
    """A frame of stream 1."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", 1) + payload


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=30)), max_size=8), st.lists(st.integers(0, 30)))
def test_frames_come_whole_however_they_are_cut(wanted: list[tuple[int, bytes]], sizes: list[int]) -> None:
    frames, found = Frames(), []
    data = [frame(kind, 0, payload) for kind, payload in wanted]
    for piece in pieces(b"".join(data), sizes):
        frames.feed(piece)
        while (each := frames.next()) is not None:
            found.append(each)
    assert [(each.kind, each.data) for each in found] == list(zip((kind for kind, _ in wanted), data, strict=True))
    assert len(frames) == 0


@pytest.mark.parametrize(
    "data",
    [
        # Known by the head alone.
        frame(0, 0, b"x" * (MAX_FRAME_BYTES + 1))[:9],
        frame(1, 0, b"x" * MAX_FRAME_BYTES) + frame(9, 0, b"x" * MAX_FRAME_BYTES) * 4,
    ],
    ids=["frame", "block"],
)
def test_frames_that_are_too_long(data: bytes) -> None:
    frames = Frames()
    frames.feed(data)
    with pytest.raises(BrokenFramesError, match="over"):
        list(iter(frames.next, None))


def test_header_blocks_are_counted_one_by_one() -> None:
    frames = Frames()
    for _ in range(2 * MAX_BLOCK_BYTES // MAX_FRAME_BYTES):
        frames.feed(frame(1, 4, b"x" * MAX_FRAME_BYTES))
        assert frames.next() is not None


@pytest.mark.parametrize(
    ("fields", "are_trailers", "is_good"),
    [
        ([(b":status", b"200"), (b"a", b"")], False, True),
        ([(b"a", b"")], False, False),
        ([(b":status", b"200"), (b":status", b"200")], False, False),
        ([(b":status", b"200")], True, False),
        ([(b":status", b"20")], False, False),
        ([(b":status", b"200"), (b"", b"")], False, False),
        ([(b":status", b"200"), (b"a", b"x" * MAX_FIELD_BYTES)], False, False),
        ([(b"a", b"x" * (MAX_FIELD_BYTES - 1))], True, True),
    ],
)
def test_fields(fields: Pairs, are_trailers: bool, is_good: bool) -> None:
    assert (fault(fields, are_trailers=are_trailers) is None) == is_good


class Wire(asyncio.Transport):
    """What a connection writes; it is read by nobody."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.written = bytearray()
        self.protocol: asyncio.Protocol | None = protocol
        protocol.connection_made(self)

    def write(self, data: Any) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if self.protocol is not None:
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)
            self.protocol = None


_SEEDS = ("ok", "twice", "only-7", "late-0", "text-41", "value-ff", "fields-50", "graceful", "unserved", "pings-3")


async def _converse(mode: str, change: Any) -> tuple[Guest, Conversation, Memory]:
    """A stream of this mode whose server's bytes are changed on their way."""
    guest, memory = Guest(), Memory()
    guest.root.grpc_tokens._states.clear()
    token = guest.stream()
    effect = GrpcStream(guest.root, token, "auth", f"/t/{mode}", [])
    conversation = Conversation(effect, 1000, memory, lambda *_: None)
    client = Connection("auth", lambda: None, lambda _: None)
    wire = Wire(client)
    client.open(conversation, request_fields(effect, UpstreamSpec("auth", "http://a"), None))
    conversation.send(None, is_last=True)
    await asyncio.sleep(0)
    server = ServerConnection(BrokenServer())
    other = Wire(server)
    server.data_received(bytes(wire.written))
    await asyncio.sleep(0)
    await until(lambda: server.still_to_do == 0)
    for piece in change(bytes(other.written)):
        client.data_received(piece)
        await asyncio.sleep(0)
    wire.abort()
    for _ in range(50):
        await asyncio.sleep(0)
    return guest, conversation, memory


@settings(max_examples=150, deadline=None)
@given(
    mode=st.sampled_from(_SEEDS),
    flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    extra=st.binary(max_size=40),
    sizes=st.lists(st.integers(0, 60), max_size=10),
)
async def test_whatever_a_server_sends_a_stream_ends_once_and_nothing_is_raised(
    mode: str, flips: list[tuple[int, int]], extra: bytes, sizes: list[int]
) -> None:
    def change(data: bytes) -> Iterator[bytes]:
        changed = bytearray(data)
        for at, byte in flips:
            changed[at % len(changed)] = byte
        return pieces(bytes(changed) + extra, sizes)

    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    guest, conversation, memory = await _converse(mode, change)
    assert problems == []
    assert conversation.is_over
    assert [name for name, *_ in guest.seen].count("close") == 1
    assert memory.held == 0


def test_a_long_value_is_sent_as_it_is() -> None:
    assert b"v" * 1000 in PlainEncoder().encode([(b"x-long", b"v" * 1000)])
