"""What plugins made of a request's headers, written into the app's scope. Bytes stay bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from asgi_wasm.asgi.messages.translate import hidden_fields, own_host, pseudo_headers, sendable
from asgi_wasm.asgi.types import Scope
from asgi_wasm.host.streams.header_map import HeaderMap
from asgi_wasm.http_syntax import FIELD_VALUE, TOKEN

_TOKEN = re.compile(TOKEN.encode())
_VALUE = re.compile(FIELD_VALUE.encode())
# RFC 3986 3.1.
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*")
# White space and control characters would end or split a request line.
_UNSENDABLE_IN_PATH = re.compile(rb"[\x00-\x20\x7f]")
_WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss"}


def apply_request_headers(scope: Scope, headers: HeaderMap) -> list[bytes]:
    """Write what plugins changed into ``scope``, which must be our own copy; what they did not stays as it was.

    Gives back the names of headers that were left out because they could not be sent.
    """
    if not headers.changed:
        return []
    before = dict(pseudo_headers(scope))
    fields, dropped = sendable(headers)
    hidden = hidden_fields(scope)
    kept = [(name, value) for name, value in scope["headers"] if name in hidden]
    authority = headers.get(b":authority")
    if authority is not None and (own_host(scope) is not None or authority != before[b":authority"]):
        kept.insert(0, (b"host", authority))
    scope["headers"] = kept + fields
    method, scheme, path = (_changed(headers, before, name) for name in (b":method", b":scheme", b":path"))
    if method:
        scope["method"] = method.decode("latin-1").upper()
    if scheme:
        text = scheme.decode("latin-1")
        scope["scheme"] = _WEBSOCKET_SCHEMES.get(text, text) if scope["type"] == "websocket" else text
    if path:
        raw_path, _, query = path.partition(b"?")
        scope["raw_path"] = raw_path
        scope["path"] = unquote_to_bytes(raw_path).decode("utf-8", "replace")
        scope["query_string"] = query
    return dropped


def is_target_sendable(headers: HeaderMap) -> bool:
    """Whether method, scheme and path are such as a server could have read from a request line, authority from `host`.

    Envoy's codec answers 503 where they hold CR, LF or NUL; an app is given no other bytes that no server would pass.
    """
    method, scheme, path = (headers.get(name) for name in (b":method", b":scheme", b":path"))
    authority = headers.get(b":authority")
    return (
        (not authority or _VALUE.fullmatch(authority) is not None)
        and (not method or _TOKEN.fullmatch(method) is not None)
        and (not scheme or _SCHEME.fullmatch(scheme) is not None)
        and (not path or _UNSENDABLE_IN_PATH.search(path) is None)
    )


def _changed(headers: HeaderMap, before: Mapping[bytes, bytes], name: bytes) -> bytes | None:
    """What a plugin wrote; None when it is as it was, or was removed."""
    value = headers.get(name)
    return None if value == before[name] else value
