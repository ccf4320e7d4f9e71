"""The part of a body that a plugin sees, and the rules by which it may be changed.

Followed: Envoy `source/extensions/common/wasm/context.cc` (`Buffer::copyTo`, `Buffer::copyFrom`).
"""

from __future__ import annotations

from asgi_wasm.host.abi import HostcallError, ProxyStatus


class Buffer:
    """Bytes that a body callback reads and, unless ``writable`` is false, changes."""

    __slots__ = ("data", "writable")

    def __init__(self, data: bytes | bytearray = b"", *, writable: bool = True) -> None:
        # A bytearray is appended to in place.
        self.data = data
        self.writable = writable

    def __len__(self) -> int:
        return len(self.data)

    def get(self, start: int, size: int) -> bytes:
        """At most ``size`` bytes from ``start``; nothing when ``start`` lies at or beyond the end."""
        return bytes(self.data[start : start + size])

    def set(self, start: int, size: int, value: bytes) -> None:
        """Replace ``size`` bytes at the front (0 prepends, all of them replaces), or append.

        Raises `HostcallError` BAD_ARGUMENT when read-only, or for ``0 < start < len``: the spec has a splice
        there, Envoy has not.
        """
        if not self.writable:
            raise HostcallError(ProxyStatus.BAD_ARGUMENT)
        if start == 0:
            self.data = value + self.data[size:]
        elif start >= len(self.data):
            self.data += value
        else:
            raise HostcallError(ProxyStatus.BAD_ARGUMENT)
