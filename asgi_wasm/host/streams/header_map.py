"""An ordered multimap of header bytes, with pseudo-headers first and names in lower case.

Followed: Envoy `source/common/http/header_map_impl.cc`; which names are single is what a run of Envoy showed
(`tests/conformance/probe`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from typing_extensions import Self

_SINGLE = (
    b"cache-control connection content-encoding content-length content-type keep-alive proxy-connection proxy-status "
    b"transfer-encoding upgrade via x-request-id"
)
_SINGLE_IN_REQUESTS = (
    b":method :path :scheme :authority :protocol "
    b"accept accept-encoding access-control-request-headers access-control-request-method authentication authorization "
    b"expect grpc-accept-encoding grpc-timeout if-match if-modified-since if-none-match if-range if-unmodified-since "
    b"origin pragma referer te user-agent x-client-trace-id x-forwarded-client-cert x-forwarded-for x-forwarded-host "
    b"x-forwarded-port x-forwarded-proto"
)
_SINGLE_IN_RESPONSES = (
    b":status access-control-allow-credentials access-control-allow-headers access-control-allow-methods "
    b"access-control-allow-origin access-control-expose-headers access-control-max-age age date etag expires "
    b"grpc-message grpc-status last-modified location server vary"
)


class HeaderMap:
    """Headers or trailers of one direction. ``pairs`` may be read freely; it is changed by the methods only.

    Envoy keeps some names once: adding another value of one of the ``single`` names joins it by a comma.
    """

    __slots__ = ("changed", "pairs")
    single: ClassVar[frozenset[bytes]] = frozenset()

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.pairs = list(pairs)
        # Lets the ASGI border skip writing back what no plugin touched.
        self.changed = False

    @classmethod
    def received(cls, pairs: list[tuple[bytes, bytes]]) -> Self:
        """What came over the wire, with the values of a single name joined."""
        made = cls(pairs)
        if len(dict(pairs)) < len(pairs):
            made.replace_all(pairs)
            made.changed = False
        return made

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
        name = self._key(name)
        return [value for key, value in self.pairs if key == name]

    def add(self, name: bytes, value: bytes) -> None:
        """Append, keeping what is there."""
        name = self._key(name)
        self.changed = True
        if name in self.single:
            for index, (key, old) in enumerate(self.pairs):
                if key == name:
                    self.pairs[index] = (name, old + b"," + value)
                    return
        self._insert(name, value)

    def replace(self, name: bytes, value: bytes) -> None:
        """Remove every value, then append this one (`HeaderMapImpl::setCopy`)."""
        name = self._key(name)
        self.changed = True
        if name.startswith(b":"):
            for index, (key, _) in enumerate(self.pairs):
                if key == name:
                    self.pairs[index] = (name, value)
                    return
        self.pairs = [pair for pair in self.pairs if pair[0] != name]
        self._insert(name, value)

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

    # Under which name a name is kept; a builtin, because every hostcall about a header asks it.
    _key = staticmethod(bytes.lower)

    def _insert(self, name: bytes, value: bytes) -> None:
        if not name.startswith(b":"):
            self.pairs.append((name, value))
            return
        # HTTP/2 (RFC 9113 8.3): pseudo-headers come before all others.
        at = 0
        while at < len(self.pairs) and self.pairs[at][0].startswith(b":"):
            at += 1
        self.pairs.insert(at, (name, value))


class RequestHeaderMap(HeaderMap):
    """Headers of a request, where `host` is another name of `:authority`."""

    __slots__ = ()
    single = frozenset((_SINGLE + b" " + _SINGLE_IN_REQUESTS).split())

    @staticmethod
    def _key(name: bytes) -> bytes:
        name = name.lower()
        return b":authority" if name == b"host" else name


class ResponseHeaderMap(HeaderMap):
    """Headers of a response."""

    __slots__ = ()
    single = frozenset((_SINGLE + b" " + _SINGLE_IN_RESPONSES).split())
