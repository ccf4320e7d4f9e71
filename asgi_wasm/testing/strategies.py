"""Hypothesis strategies for requests: ``plugin.request(**given)`` for any ``given`` of `requests`."""

from __future__ import annotations

from string import ascii_letters, digits
from typing import Any

from hypothesis import strategies as st

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_TOKEN = ascii_letters + digits + "!#$%&'*+-.^_`|~"
# Those that say how a message ends are the kit's own affair; two hosts make no request.
_FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "host"})


def targets() -> st.SearchStrategy[str]:
    """Paths, with or without a query; with dots, several slashes, escapes and any letters."""
    segment = st.one_of(st.sampled_from(["", ".", "..", "%2F", "%00", "admin"]), st.text(max_size=8))
    path = st.lists(segment, max_size=5).map(lambda parts: "/" + "/".join(parts).replace("?", ""))
    query = st.one_of(st.just(""), st.text(max_size=12).map(lambda text: f"?{text}"))
    return st.builds(str.__add__, path, query)


def headers() -> st.SearchStrategy[list[tuple[str, bytes]]]:
    """Names that HTTP allows, with values of visible bytes and spaces; the same name may come again."""
    name = st.text(_TOKEN, min_size=1, max_size=12).filter(lambda text: text.lower() not in _FRAMING)
    value = st.binary(max_size=24).map(lambda data: bytes(byte for byte in data if byte >= 32 and byte != 127).strip())
    return st.lists(st.tuples(name, value), max_size=8)


def bodies() -> st.SearchStrategy[list[bytes]]:
    """Bodies in pieces, some of them empty."""
    return st.lists(st.binary(max_size=64), max_size=4)


def requests() -> st.SearchStrategy[dict[str, Any]]:
    """Arguments of `WasmPlugin.request`."""
    return st.fixed_dictionaries(
        {"method": st.sampled_from(_METHODS), "target": targets(), "headers": headers(), "body": bodies()}
    )
