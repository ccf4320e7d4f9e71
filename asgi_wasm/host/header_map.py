"""An ordered multimap of header bytes, with pseudo-headers first and names in lower case.

Followed: Envoy `source/common/http/header_map_impl.cc`.
"""

from __future__ import annotations

from collections.abc import Iterable


class HeaderMap:
    """Headers or trailers of one direction. ``pairs`` may be read freely; it is changed by the methods only.

    In the headers of a request ``host`` is another name of ``:authority``.
    """

    __slots__ = ("_host", "changed", "pairs")

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]] = (), *, request: bool = False) -> None:
        self.pairs = list(pairs)
        self._host = b"host" if request else None
        # Lets the ASGI border skip writing back what no plugin touched.
        self.changed = False

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def byte_size(self) -> int:
        """Envoy's `byteSize()`: the bytes of all names and values."""
        return sum(len(name) + len(value) for name, value in self.pairs)

    def get(self, name: bytes) -> bytes | None:
        """The first value, as the ABI asks."""
        name = self._key(name)
        for key, value in self.pairs:
            if key == name:
                return value
        return None

    def get_all(self, name: bytes) -> list[bytes]:
        """Every value in order."""
        return [value for key, value in self.pairs if key == name]

    def add(self, name: bytes, value: bytes) -> None:
        """Append, keeping what is there. Envoy keeps each pseudo-header once: adding another joins them by a comma."""
        name = self._key(name)
        self.changed = True
        if not name.startswith(b":"):
            self.pairs.append((name, value))
            return
        old = self.get(name)
        self._put_pseudo(name, value if old is None else old + b"," + value)

    def replace(self, name: bytes, value: bytes) -> None:
        """Remove every value, then append this one (`HeaderMapImpl::setCopy`)."""
        name = self._key(name)
        self.changed = True
        if name.startswith(b":"):
            self._put_pseudo(name, value)
            return
        self.pairs = [pair for pair in self.pairs if pair[0] != name]
        self.pairs.append((name, value))

    def put(self, name: bytes, value: bytes) -> None:
        """Give the first value of a name another one, in its place; append when there is none."""
        for index, (key, old) in enumerate(self.pairs):
            if key == name:
                if old != value:
                    self.pairs[index] = (name, value)
                return
        self.pairs.append((name, value))

    def remove(self, name: bytes) -> None:
        """Remove every value; fine when there is none."""
        name = self._key(name)
        self.changed = True
        self.pairs = [pair for pair in self.pairs if pair[0] != name]

    def replace_all(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Start anew from these pairs."""
        self.pairs = []
        self.changed = True
        for name, value in pairs:
            self.add(name, value)

    def _key(self, name: bytes) -> bytes:
        name = name.lower()
        return b":authority" if name == self._host else name

    def _put_pseudo(self, name: bytes, value: bytes) -> None:
        # HTTP/2 (RFC 9113 8.3): pseudo-headers come before all others.
        at = 0
        for index, (key, _) in enumerate(self.pairs):
            if key == name:
                self.pairs[index] = (name, value)
                return
            if not key.startswith(b":"):
                break
            at = index + 1
        self.pairs.insert(at, (name, value))
