"""Heads as the lane shows them to plugins: looked at once, and no map is made of them.

What is not ordinary here is for header maps to judge (`translate`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi.messages import translate
from asgi_wasm.http_syntax import MAX_STATUS, MIN_STATUS

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Message, Scope

Fields = list[tuple[bytes, bytes]]

HOST, LENGTH, CODING, TYPE = b"host", b"content-length", b"transfer-encoding", b"content-type"
_SPECIAL = translate.HIDDEN | {LENGTH, TYPE}
# In each version of HTTP that cuts no header into pieces, and says where a message ends.
_SIMPLE_VERSIONS = frozenset({"1.1", "1.0", None})
_METHODS = {
    name: name.encode() for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
}
_SCHEMES = {name: name.encode() for name in ("http", "https")}
_NO_CONTENT = 204
# Names that responses often have, in lower case, and that say nothing of how a message is framed.
_ORDINARY = frozenset({TYPE, b"date", b"server", b"cache-control", b"vary", b"etag", b"set-cookie", b"location"})
# As a number: looking for one byte as bytes raises an error inside of CPython first.
_QUESTION_MARK = 0x3F
_STATUSES = {status: b"%d" % status for status in range(MIN_STATUS, MAX_STATUS + 1)}


# Of a request: its pseudo-headers, names and values in turn; the headers that plugins see after them; those that they
# do not see; whether no body follows, or None where that takes a message to tell; whether there is a content-type. It
# is a plain tuple since it is made often.
Head = tuple[list[bytes], Fields, Fields, bool | None, bool]


def read_head(scope: Scope, *, guesses: bool) -> Head:
    """The head of a request whose headers are a list. ``guesses`` as in `translate.request_ends_with_headers`."""
    fields: Fields = []
    kept: Fields = []
    host: tuple[bytes, bytes] | None = None
    length: bytes | None = None
    coded = typed = False
    for field in scope["headers"]:
        name, value = field
        if name not in _SPECIAL:
            fields.append(field)
        elif name == b"host":
            host = host or field
        elif name == b"content-length":
            length = value
            fields.append(field)
        elif name == b"content-type":
            typed = True
            fields.append(field)
        else:
            kept.append(field)
            coded = coded or name == CODING
    ends = not coded and (length or b"").strip() == b"0" if coded or length is not None else None
    try:
        if host is not None and scope["http_version"] in _SIMPLE_VERSIONS:
            path, query, method = scope["raw_path"], scope["query_string"], _METHODS[scope["method"]]
            if path is not None and _QUESTION_MARK not in path:
                target = b"?".join((path, query)) if query else path
                scheme = _SCHEMES[scope["scheme"]]
                pseudo = [b":authority", host[1], b":path", target, b":method", method, b":scheme", scheme]
                return pseudo, fields, [host, *kept], guesses or None if ends is None else ends, typed
    except KeyError:
        # The server leaves something out, or it is nothing usual.
        pass
    return _unusual_head(scope, fields, kept, ends, typed, guesses=guesses)


def _unusual_head(scope: Scope, fields: Fields, kept: Fields, ends: bool | None, typed: bool, *, guesses: bool) -> Head:
    """`read_head` by what header maps are made with."""
    pseudo = [part for pair in translate.pseudo_headers(scope) for part in pair]
    if translate.own_host(scope) is not None:
        kept = [(HOST, pseudo[1]), *kept]
    if scope.get("http_version") not in _SIMPLE_VERSIONS:
        fields = translate.shown_fields(scope)
    if ends is None and guesses:
        ends = translate.is_likely_to_end(scope)
    return pseudo, fields, kept, ends, typed


def read_start(method: str, message: Message) -> tuple[bytes, bool] | None:
    """An app's status, and whether its response ends with its head, where its start message may be shown to plugins and
    sent as it is; else None. Names must be in lower case, as the specification wants them.
    """
    headers, status = message.get("headers"), message["status"]
    if type(headers) is not list or type(status) is not int or status not in _STATUSES or message.get("trailers"):
        return None
    if method == "CONNECT":
        return None
    ends, lengths = method == "HEAD" or status in translate.BODILESS_STATUSES, 0
    for name, value in headers:
        if type(name) is not bytes or type(value) is not bytes:
            return None
        if name in _ORDINARY:
            continue
        if name != name.lower() or name == CODING:
            return None
        if name == LENGTH:
            lengths += 1
            if lengths > 1 or ((ends or value[:1] == b"0") and not is_sent_as_it_is(value, status, ends=ends)):
                return None
            ends = ends or value == b"0"
    return _STATUSES[status], ends


def is_sent_as_it_is(length: bytes, status: int, *, ends: bool) -> bool:
    """Whether a response with this content-length may have it (`lengths`); it ``ends`` with its head anyway."""
    if ends:
        return status != _NO_CONTENT and length.isdigit() and (length[:1] != b"0" or len(length) == 1)
    return length[:1] != b"0" or len(length) == 1


def pairs_of(flat: list[bytes]) -> Fields:
    """Names and values in turn, as pairs."""
    return [*zip(flat[::2], flat[1::2], strict=True)]


def trimmed(fields: Any) -> Fields:
    """Headers that are written anew, without white space around values, as header maps write them."""
    return [(name, value.strip(b" \t")) for name, value in fields]
