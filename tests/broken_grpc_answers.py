"""What a gRPC server that misbehaves makes of a call: by the method's name, with an argument behind it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from h2.exceptions import H2Error
from hyperframe.frame import GoAwayFrame

if TYPE_CHECKING:
    from tests.broken_grpc_server import Connection


Pairs = list[tuple[bytes, bytes]]
OK: Pairs = [(b":status", b"200"), (b"content-type", b"application/grpc")]


def message(data: bytes, flag: int = 0, size: int | None = None) -> bytes:
    """A message with its prefix, which may lie."""
    return struct.pack(">BI", flag, len(data) if size is None else size) + data


HI = message(b"hi")


@dataclass
class Answer:
    """What a mode does with its stream."""

    connection: Connection
    stream: int

    def head(self, *more: tuple[bytes, bytes], status: bytes = b"200", is_last: bool = False) -> Answer:
        """The answer's head."""
        fields = [(b":status", status), *OK[1:], *more]
        self.connection.h2.send_headers(self.stream, fields, end_stream=is_last)
        return self.sent()

    def data(self, data: bytes = HI, is_last: bool = False) -> Answer:
        """A piece of the answer."""
        self.connection.h2.send_data(self.stream, data, end_stream=is_last)
        return self.sent()

    def trailers(self, *fields: tuple[bytes, bytes]) -> Answer:
        """The end."""
        self.connection.h2.send_headers(self.stream, list(fields) or [(b"grpc-status", b"0")], end_stream=True)
        return self.sent()

    def reset(self, code: str) -> None:
        """Reset the stream."""
        self.connection.h2.reset_stream(self.stream, int(code))
        self.sent()

    def raw(self, data: bytes) -> Answer:
        """Any bytes."""
        self.connection.transport.write(data)
        return self

    def cut(self) -> None:
        """Close the connection."""
        self.connection.transport.close()

    def later(self, do: Callable[[], object]) -> None:
        """In a while, when the client has seen what came before, unless it has reset the stream."""

        def do_it() -> None:
            self.connection.still_to_do -= 1
            with suppress(H2Error):
                do()

        self.connection.still_to_do += 1
        asyncio.get_running_loop().call_later(0.05, do_it)

    def sent(self) -> Answer:
        self.connection.flush()
        return self


def _goaway(answer: Answer, code: str) -> None:
    """Goodbye, and the connection is cut with the call in it."""
    answer.head().data()
    answer.raw(GoAwayFrame(0, last_stream_id=answer.stream, error_code=int(code)).serialize())
    answer.later(answer.cut)


def _graceful(answer: Answer, _: str) -> None:
    """Goodbye, but the call is served to its end."""
    answer.head().raw(GoAwayFrame(0, last_stream_id=answer.stream).serialize())
    answer.later(lambda: answer.data().trailers())


def _unserved(answer: Answer, _: str) -> None:
    """Goodbye: the call was not looked at."""
    answer.raw(GoAwayFrame(0, last_stream_id=0).serialize())


def _reset_after_message(answer: Answer, code: str) -> None:
    answer.head().data()
    answer.later(lambda: answer.reset(code))


def _cut_after_message(answer: Answer, _: str) -> None:
    answer.head().data()
    answer.later(answer.cut)


def _with(name: bytes) -> Callable[[Answer, str], object]:
    return lambda answer, value: answer.head((name, bytes.fromhex(value))).data().trailers()


MODES: dict[str, Callable[[Answer, str], object]] = {
    "ok": lambda answer, _: answer.head().data().trailers(),
    "mute": lambda answer, _: None,
    "head": lambda answer, _: answer.head(),
    "message": lambda answer, _: answer.head().data(),
    "twice": lambda answer, _: answer.head().data(message(b"one") + message(b"two")).trailers(),
    "many": lambda answer, count: answer.head().data(message(b"") * int(count)).trailers(),
    "empty": lambda answer, _: answer.head().data(message(b"")).trailers(),
    # Broken frames: a prefix that announces more, or less, than comes; a flag.
    "long": lambda answer, _: answer.head().data(message(b"hi", size=100)).trailers(),
    "short": lambda answer, _: answer.head().data(message(b"hello", size=2)).trailers(),
    "flag": lambda answer, flag: answer.head().data(message(b"hi", flag=int(flag))).trailers(),
    "huge": lambda answer, _: answer.head().data(message(b"hi", size=0xFFFF_FFFF)),
    # Statuses.
    "status": lambda answer, code: answer.head().data().trailers((b"grpc-status", code.encode())),
    "text": lambda answer, text: answer.head().trailers((b"grpc-status", b"7"), (b"grpc-message", bytes.fromhex(text))),
    "only": lambda answer, code: answer.head((b"grpc-status", code.encode()), is_last=True),
    "endless": lambda answer, _: answer.head().data(is_last=True),
    "http": lambda answer, status: answer.head(status=status.encode()).data(b"no", is_last=True),
    "bare": lambda answer, status: answer.head(status=status.encode(), is_last=True),
    # Resets and cuts: before the head, after it, and after a message.
    "early": lambda answer, code: answer.reset(code),
    "headed": lambda answer, code: answer.head().reset(code),
    "late": _reset_after_message,
    "cut": _cut_after_message,
    "abort": lambda answer, _: answer.connection.transport.abort(),
    "goaway": _goaway,
    "graceful": _graceful,
    "unserved": _unserved,
    "garbage": lambda answer, _: answer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    # Metadata.
    "value": _with(b"x-value"),
    "binary": _with(b"x-bin"),
    "last": lambda answer, value: (
        answer.head().data().trailers((b"grpc-status", b"0"), (b"x-last", bytes.fromhex(value)))
    ),
    "name": lambda answer, name: answer.head((bytes.fromhex(name), b"v")).data().trailers(),
    "wide": lambda answer, size: answer.head((b"x-wide", b"w" * int(size))).data().trailers(),
    "fields": lambda answer, count: answer.head(*[(b"x-%d" % i, b"v") for i in range(int(count))]).data().trailers(),
    "length": lambda answer, size: answer.head((b"content-length", size.encode())).data().trailers(),
}


async def _flood(answer: Answer, size: str) -> None:
    """Messages of this size without end, as fast as the client lets it."""
    answer.head()
    data = message(b"x" * int(size)) * max(1, 16_000 // (int(size) + 5))
    connection = answer.connection
    while not connection.is_over:
        window = connection.h2.local_flow_control_window(answer.stream)
        is_free = window >= len(data) and connection.transport.get_write_buffer_size() < 1 << 18
        if is_free:
            for start in range(0, len(data), 16_384):
                connection.h2.send_data(answer.stream, data[start : start + 16_384])
            connection.flush()
        await asyncio.sleep(0 if is_free else 0.001)


async def _unfinished(answer: Answer, size: str) -> None:
    """All of a message of this size but its last byte."""
    left = message(b"x" * int(size))[:-1]
    answer.head()
    while left and not answer.connection.is_over:
        room = min(answer.connection.h2.local_flow_control_window(answer.stream), 16_384)
        if room > 0:
            answer.data(left[:room])
            left = left[room:]
        await asyncio.sleep(0)


async def _pings(answer: Answer, count: str) -> None:
    """So many pings, and then an answer."""
    for _ in range(int(count)):
        answer.connection.h2.ping(b"12345678")
    await asyncio.sleep(0)
    answer.head().data().trailers()


async def _interim(answer: Answer, count: str) -> None:
    """So many interim answers before the answer."""
    for _ in range(int(count)):
        answer.connection.h2.send_headers(answer.stream, [(b":status", b"103")])
        await asyncio.sleep(0)
    answer.head().data().trailers()


async def _crumbs(answer: Answer, count: str) -> None:
    """A message of so many bytes, each in a frame of its own."""
    answer.head()
    for byte in message(b"x" * int(count)):
        answer.connection.h2.send_data(answer.stream, bytes([byte]))
    answer.sent().trailers()


FLOODS = {"flood": _flood, "unfinished": _unfinished, "pings": _pings, "interim": _interim, "crumbs": _crumbs}
