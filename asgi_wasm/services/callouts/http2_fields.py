"""What an HTTP/2 call says in headers, and what of an answer's events is taken."""

from __future__ import annotations

import asyncio
import re
from typing import cast

from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from asgi_wasm.http_syntax import FIELD_VALUE, TOKEN
from asgi_wasm.services.callouts.messages import (
    MAX_FIELDS,
    Answer,
    CalloutError,
    Request,
    StreamResetError,
    UpstreamProtocolError,
)

_STATUS = re.compile(rb"[2-9][0-9][0-9]")
_TOKEN = re.compile(TOKEN.encode())
_VALUE = re.compile(FIELD_VALUE.encode())
# What belongs to a connection of HTTP/1: an answer that has it is malformed (RFC 9113 8.2.2), as Envoy's codec has it.
_OF_CONNECTIONS = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})


class Stream:
    """One call."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, error: CalloutError) -> None:
        """End it, unless it has ended."""
        if not self.done.done():
            self.done.set_exception(error)


def fill(answer: Answer, event: Event) -> bool:
    """Do to a call's answer what the event says; whether it is whole. Raises `CalloutError`."""
    if isinstance(event, DataReceived):
        answer.append(event.data or b"")
    elif isinstance(event, ResponseReceived):
        status, headers = _received_headers(event.headers)
        answer.begin(status, headers)
    elif isinstance(event, InformationalResponseReceived):
        answer.interim()
    elif isinstance(event, TrailersReceived):
        answer.end(_received_trailers(event.headers, len(answer.body)))
    elif isinstance(event, StreamReset):
        raise StreamResetError(f"the upstream reset the call (HTTP/2 error {int(event.error_code or 0)})")
    elif isinstance(event, StreamEnded):
        if answer.headers is None:
            raise UpstreamProtocolError("it ended without headers")
        return True
    return False


def sent_headers(request: Request) -> list[tuple[bytes, bytes]]:
    """With the pseudo-headers first, of which the host becomes one. h2 leaves out what belongs to a connection."""
    (_, authority), *fields = request.headers
    pseudo = [(b":method", request.method), (b":authority", authority), (b":scheme", request.scheme)]
    return [*pseudo, (b":path", request.target), *fields]


def _checked(headers: object) -> list[tuple[bytes, bytes]]:
    pairs = cast("list[tuple[bytes, bytes]]", headers or [])
    if len(pairs) > MAX_FIELDS:
        raise UpstreamProtocolError(f"it has more than {MAX_FIELDS} headers")
    for name, value in pairs:
        if not _TOKEN.fullmatch(name.lstrip(b":")) or name != name.lower() or not _VALUE.fullmatch(value):
            raise UpstreamProtocolError("its headers have characters that no header can carry")
        if name in _OF_CONNECTIONS:
            raise UpstreamProtocolError(f"it has a header that HTTP/2 does not: {name.decode()}")
    return [(bytes(name), bytes(value)) for name, value in pairs]


def _received_trailers(headers: object, received: int) -> list[tuple[bytes, bytes]]:
    pairs = _checked(headers)
    for name, value in pairs:
        if name.startswith(b":"):
            raise UpstreamProtocolError("its trailers have a pseudo-header")
        if name == b"content-length" and value != b"%d" % received:
            raise UpstreamProtocolError("its trailers tell another length than it has")
    return pairs


def _received_headers(headers: object) -> tuple[int, list[tuple[bytes, bytes]]]:
    pairs = _checked(headers)
    pseudo = [pair for pair in pairs if pair[0].startswith(b":")]
    if len(pseudo) != 1 or pseudo[0][0] != b":status" or not _STATUS.fullmatch(pseudo[0][1]):
        raise UpstreamProtocolError("it has no status, or pseudo-headers beside it")
    return int(pseudo[0][1]), [pair for pair in pairs if not pair[0].startswith(b":")]
