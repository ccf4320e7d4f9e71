"""What an HTTP/2 call says in headers, and what of an answer's events is taken."""

from __future__ import annotations

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
from asgi_wasm.services.callouts.messages import MAX_FIELDS, Answer, Request, StreamResetError, UpstreamProtocolError

_TOKEN = re.compile(TOKEN.encode())
_VALUE = re.compile(FIELD_VALUE.encode())


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
        answer.end([pair for pair in _checked(event.headers) if not pair[0].startswith(b":")])
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
    return [(bytes(name), bytes(value)) for name, value in pairs]


def _received_headers(headers: object) -> tuple[int, list[tuple[bytes, bytes]]]:
    pairs = _checked(headers)
    status = dict(pairs).get(b":status", b"")
    if not re.fullmatch(rb"[2-9][0-9][0-9]", status):
        raise UpstreamProtocolError("it has no status")
    return int(status), [pair for pair in pairs if not pair[0].startswith(b":")]
