"""HTTP/2's frames, cut out of what came, so that h2 gets them one by one.

That bounds what one step of the event loop does, and what is kept of a frame or header block before h2 would look at
it; and h2 does not see GOAWAY, after which it would take nothing more of the streams that the peer still serves.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from typing import Any

from hpack import Encoder

# RFC 9113 6.5.2: what a peer may send as long as we allow no more.
MAX_FRAME_BYTES = 16 * 1024
# On the wire, where Huffman's code makes a block shorter. Envoy takes 60 KiB of names and values; to decode that
# takes 40 ms at most.
MAX_BLOCK_BYTES = 64 * 1024
# Frames in so many seconds of which no call has anything: Envoy, too, closes a connection that is flooded. What is on
# its way to a call that was given up counts, and is far less.
_MOST_USELESS, _USELESS_SECONDS = 5000, 10.0

HEADERS, PUSH_PROMISE, GOAWAY, CONTINUATION = 1, 5, 7, 9
_BLOCK = frozenset({HEADERS, PUSH_PROMISE, CONTINUATION})
_END_HEADERS = 4
_HEAD_BYTES = 9
_GOAWAY = struct.Struct(">II")
_STREAM_MASK = 0x7FFF_FFFF


class BrokenFramesError(Exception):
    """Raised for a frame or header block that is too long, a frame that is too short, and for a flood of frames."""


@dataclass(frozen=True)
class Frame:
    """A whole frame: its type, and all its bytes."""

    kind: int
    data: bytes

    def last_stream(self) -> int:
        """Of a GOAWAY: the last stream that the peer serves. Raises `BrokenFramesError`."""
        if len(self.data) < _HEAD_BYTES + _GOAWAY.size:
            raise BrokenFramesError("a GOAWAY is too short")
        last, _ = _GOAWAY.unpack_from(self.data, _HEAD_BYTES)
        return int(last & _STREAM_MASK)


class PlainEncoder(Encoder):
    """HPACK without Huffman's code, which hpack writes in the square of a value's length: a second for 60 kB."""

    def encode(self, headers: Any, huffman: bool = False) -> bytes:
        return super().encode(headers, huffman=False)


class Frames:
    """Cuts what came into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        # Of the header block that is not whole yet.
        self._block_bytes = 0
        # Frames since one was of use, or since then.
        self._useless = 0
        self._since = 0.0

    def __len__(self) -> int:
        """Bytes that wait."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """More of what came."""
        self._buffer += data

    def next(self) -> Frame | None:
        """The next frame that is whole. Raises `BrokenFramesError`."""
        if len(self._buffer) < _HEAD_BYTES:
            return None
        size = int.from_bytes(self._buffer[:3], "big")
        if size > MAX_FRAME_BYTES:
            raise BrokenFramesError(f"a frame of {size} bytes is over {MAX_FRAME_BYTES}")
        if len(self._buffer) < _HEAD_BYTES + size:
            return None
        data = bytes(self._buffer[: _HEAD_BYTES + size])
        del self._buffer[: _HEAD_BYTES + size]
        kind, flags = data[3], data[4]
        if kind in _BLOCK:
            self._block_bytes += size
            if self._block_bytes > MAX_BLOCK_BYTES:
                raise BrokenFramesError(f"a header block is over {MAX_BLOCK_BYTES} bytes")
            if flags & _END_HEADERS:
                self._block_bytes = 0
        self._count()
        return Frame(kind, data)

    def _count(self) -> None:
        self._useless += 1
        if self._useless > _MOST_USELESS:
            now = time.monotonic()
            if now - self._since < _USELESS_SECONDS:
                raise BrokenFramesError(f"more than {_MOST_USELESS} frames came that are no part of any answer")
            self._useless, self._since = 0, now

    def renew(self) -> None:
        """A call has got something of a frame, or something was sent that the peer is to make room for."""
        self._useless = 0

    def clear(self) -> None:
        """Forget what waits."""
        self._buffer.clear()
