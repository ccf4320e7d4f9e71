"""The two directions of a stream, and the names of what there is of each.

Plain numbers, which index lists and tuples: they are on every request's way.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from asgi_wasm.host.abi import MapType

REQUEST, RESPONSE = 0, 1
NAMES = "request", "response"
# The header maps of each direction, by which contexts keep those that may be touched now.
HEADERS_MAPS = REQUEST_HEADERS, RESPONSE_HEADERS = int(MapType.HTTP_REQUEST_HEADERS), int(MapType.HTTP_RESPONSE_HEADERS)
TRAILERS_MAPS = int(MapType.HTTP_REQUEST_TRAILERS), int(MapType.HTTP_RESPONSE_TRAILERS)


class InBoth(NamedTuple):
    """Something that is true of either direction, or not."""

    request: bool
    response: bool


def sees_body(callbacks: Container[str]) -> InBoth:
    """In which directions these names have a callback for the body or the trailers."""
    request, response = (any(f"proxy_on_{way}_{part}" in callbacks for part in ("body", "trailers")) for way in NAMES)
    return InBoth(request, response)
