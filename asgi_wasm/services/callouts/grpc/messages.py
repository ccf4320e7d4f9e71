"""gRPC's messages in the bytes of a stream: each has a prefix of five bytes, a flag and its length.

Followed: gRPC `doc/PROTOCOL-HTTP2.md`; for what is broken Envoy `source/common/grpc/codec.cc`.
"""

from __future__ import annotations

import struct
from collections import deque

from asgi_wasm.host.vm.grpc_tokens import GrpcTokens, cost

_PREFIX = struct.Struct(">BI")
_COMPRESSED = 1


class BrokenMessageError(Exception):
    """Raised for bytes that are no gRPC message, and for a compressed one: nobody asked for that."""


class TooLargeMessageError(Exception):
    """Raised for a message that is announced to be longer than the limit."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"message larger than max ({size} vs. {limit})")


class MessageDecoder:
    """Finds the messages in what came. One that is not whole yet is kept, up to ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    @property
    def held(self) -> int:
        """Bytes that are kept."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now. Raises `BrokenMessageError` and `TooLargeMessageError`.

        As in Envoy, an error takes along the messages that came in the same piece.
        """
        self._buffer += data
        messages: list[bytes] = []
        at = 0
        while at < len(self._buffer):
            # Known by the first byte already.
            if self._buffer[at] > _COMPRESSED:
                raise BrokenMessageError
            if len(self._buffer) - at < _PREFIX.size:
                break
            flag, size = _PREFIX.unpack_from(self._buffer, at)
            if flag == _COMPRESSED and size:
                raise BrokenMessageError
            if size > self._limit:
                raise TooLargeMessageError(size, self._limit)
            end = at + _PREFIX.size + size
            if end > len(self._buffer):
                break
            messages.append(bytes(self._buffer[at + _PREFIX.size : end]))
            at = end
        del self._buffer[:at]
        return messages

    def clear(self) -> None:
        """Forget what is kept."""
        self._buffer.clear()


class Memory:
    """What all conversations of a worker hold: bytes that came, and bytes that no connection has taken yet."""

    def __init__(self) -> None:
        self.held = 0
        self.unsent = 0


class Outgoing:
    """What a plugin sends and the connection has not taken yet. It is counted in the plugin's `GrpcTokens.unsent`."""

    def __init__(self, tokens: GrpcTokens, memory: Memory) -> None:
        self._tokens = tokens
        self._memory = memory
        self._messages: deque[bytes] = deque()
        # Of the first message with its prefix, what was taken before.
        self._taken = 0
        self._is_ended = False
        self._is_end_taken = False

    def add(self, message: bytes) -> None:
        """A message, which `GrpcTokens.unsent` counts already."""
        self._messages.append(message)
        self._memory.unsent += cost(message)

    def end(self) -> None:
        """No more will come."""
        self._is_ended = True

    @property
    def has_more(self) -> bool:
        """Whether there is anything to take, be it only the end."""
        return bool(self._messages) or (self._is_ended and not self._is_end_taken)

    @property
    def needs_window(self) -> bool:
        """Whether flow control bounds what is left: an end alone has no bytes."""
        return bool(self._messages)

    def take(self, most: int) -> tuple[bytes, bool]:
        """Up to so many bytes, and whether the end is among them. Several small messages go together."""
        parts: list[bytes | memoryview] = []
        room = most
        while self._messages and room > 0:
            message = self._messages[0]
            whole = _PREFIX.size + len(message)
            end = min(whole, self._taken + room)
            if self._taken < _PREFIX.size:
                parts.append(_PREFIX.pack(0, len(message))[self._taken : end])
            if end > _PREFIX.size:
                parts.append(memoryview(message)[max(0, self._taken - _PREFIX.size) : end - _PREFIX.size])
            room -= end - self._taken
            self._taken = end
            if end == whole:
                self._release(cost(self._messages.popleft()))
                self._taken = 0
        is_end = self._is_ended and not self._messages
        self._is_end_taken = self._is_end_taken or is_end
        return b"".join(parts), is_end

    def clear(self) -> None:
        """Forget what is left: nobody wants it any more."""
        self._release(sum(map(cost, self._messages)))
        self._messages.clear()
        self._taken = 0
        self._is_end_taken = True

    def _release(self, size: int) -> None:
        self._tokens.unsent -= size
        self._memory.unsent -= size
