"""What goes to an upstream, what comes back, and what can go wrong in between."""

from __future__ import annotations

from dataclasses import dataclass, field

from asgi_wasm.host.streams.header_map import HeaderMap

# More than a proxy passes on between a request and its answer; RFC 9110 15.2 sets no bound.
_MAX_INTERIM = 100
# Of an answer's headers: Envoy's `max_headers_count`.
MAX_FIELDS = 100
# A body may come in so many pieces, and in one more for every so many bytes of it: below that an upstream has the host
# work far more than it tells it.
_FREE_PIECES = 10_000
_BYTES_PER_PIECE = 64
# Of the bodies that a worker has read, or is reading, and has not handed to plugins yet; or as many as one may have.
MAX_HELD_BYTES = 256 * 1024 * 1024


class CalloutError(Exception):
    """Raised, through a subclass, for a call that gets no whole answer."""


class ClientLeftError(CalloutError):
    """Raised for a call whose request is over: the client has gone."""


class OverflowingError(CalloutError):
    """Raised for a call when as many are under way, and waiting, as may be."""


class UnsendableError(CalloutError):
    """Raised for a request that HTTP cannot carry; ``words`` are Envoy's."""

    def __init__(self, words: bytes) -> None:
        super().__init__(words.decode("latin-1"))
        self.words = words


class ConnectError(CalloutError):
    """Raised when there is no connection to be had."""


class ConnectTimeoutError(ConnectError):
    """Raised when connecting takes too long."""


class ConnectionLostError(CalloutError):
    """Raised when the connection ended before an answer."""


class StreamResetError(CalloutError):
    """Raised when the upstream reset this one call."""


class UpstreamProtocolError(CalloutError):
    """Raised for an answer that is not HTTP, or that is more than HTTP's framing should cost."""


class AnswerTooLargeError(CalloutError):
    """Raised while reading an answer over the bound."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"its answer is over limits.call_response, {limit} bytes")


class AnswersTooLargeError(CalloutError):
    """Raised while reading an answer that has no room beside those that a worker holds."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the answers of all HTTP calls under way in this worker are over {most} bytes")


class AnswerMemory:
    """Bytes of bodies that a worker holds for its plugins."""

    def __init__(self) -> None:
        self.held = 0


@dataclass(frozen=True)
class Request:
    """A request as it is sent. ``headers`` begin with the ``host``, and tell how long the body is, if there is one."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    scheme: bytes = b"http"


@dataclass
class Answer:
    """What has come of a call so far.

    ``headers`` is None until they are there; ``limit`` is the most bytes that a body may have. What it has is counted
    in ``memory`` until `release`.
    """

    limit: int = 0
    headers: HeaderMap | None = None
    body: bytearray = field(default_factory=bytearray)
    trailers: HeaderMap | None = None
    memory: AnswerMemory = field(default_factory=AnswerMemory)
    _interim: int = 0
    _pieces: int = 0
    _held: int = 0

    def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The final status and headers."""
        self.headers = HeaderMap([(b":status", b"%d" % status), *headers])

    def end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """Trailers, which only those of HTTP/2 are: Envoy drops those of HTTP/1.1 unless it is told otherwise."""
        self.trailers = HeaderMap(trailers)

    def interim(self) -> None:
        """An answer before the final one. Raises `UpstreamProtocolError`."""
        self._interim += 1
        if self._interim > _MAX_INTERIM:
            raise UpstreamProtocolError(f"more than {_MAX_INTERIM} interim answers came before the final one")

    def append(self, data: bytes | bytearray, *, begins_piece: bool = True) -> None:
        """More of the body. Raises `AnswerTooLargeError`, `AnswersTooLargeError`, `UpstreamProtocolError`."""
        most = max(MAX_HELD_BYTES, self.limit)
        if self.memory.held + len(data) > most:
            raise AnswersTooLargeError(most)
        self.body += data
        self.memory.held += len(data)
        self._held += len(data)
        self._pieces += begins_piece
        if len(self.body) > self.limit:
            raise AnswerTooLargeError(self.limit)
        if self._pieces > _FREE_PIECES + len(self.body) // _BYTES_PER_PIECE:
            raise UpstreamProtocolError(f"{len(self.body)} bytes of its body came in {self._pieces} pieces")

    def release(self) -> None:
        """Nothing of it is held any more."""
        self.memory.held -= self._held
        self._held = 0
