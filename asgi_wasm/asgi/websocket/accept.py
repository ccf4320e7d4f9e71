"""An accepted WebSocket's 101 as a header map, and back; the subprotocol is one of its headers.

Specification: ASGI `specs/www.rst`, "Accept" and "WebSocket Connection Scope"; RFC 6455 4.2.2 and 11.3.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi.messages import translate
from asgi_wasm.host.streams.header_map import HeaderMap, ResponseHeaderMap

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Message, Scope

SUBPROTOCOL = b"sec-websocket-protocol"
_SWITCHING_PROTOCOLS = b"101"
# What the server says itself, once, or what an answer that has no body must not say. Servers raise on some of them.
_SERVERS_OWN = frozenset(
    {
        b"connection",
        b"content-length",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


def as_get(scope: Scope) -> dict[str, Any]:
    """The scope of the GET that the handshake is, and that plugins see; ASGI's websocket scope has no method."""
    own: dict[str, Any] = {**scope, "method": "GET"}
    if scope.get("subprotocols"):
        # ASGI allows any iterable, also one that can be read only once.
        own["subprotocols"] = list(scope["subprotocols"])
    return own


def offered(scope: Scope) -> list[str]:
    """The subprotocols that the client offers."""
    return list(scope.get("subprotocols") or ())


def write_offered(scope: dict[str, Any], shown: HeaderMap) -> None:
    """Let ``scope["subprotocols"]`` say what the header says, where plugins, who were shown ``shown``, changed that."""
    now = _values(scope["headers"])
    if now != _values(shown):
        tokens = (token.strip() for value in now for token in value.decode("latin-1").split(","))
        scope["subprotocols"] = [token for token in tokens if token]


def _values(fields: HeaderMap | Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    pairs = fields.pairs if isinstance(fields, HeaderMap) else fields
    return [bytes(value) for name, value in pairs if name == SUBPROTOCOL]


def accept_headers(message: Message) -> HeaderMap:
    """The 101 of the app's ``websocket.accept``."""
    fields = translate.header_pairs(message)
    if chosen := message.get("subprotocol"):
        fields.append((SUBPROTOCOL, chosen.encode("latin-1", "replace")))
    return ResponseHeaderMap([(b":status", _SWITCHING_PROTOCOLS), *fields])


def accept_message(
    message: Message, original: HeaderMap, fields: list[tuple[bytes, bytes]], offers: list[str]
) -> tuple[dict[str, Any], list[bytes]]:
    """The accept as plugins left it, and the names of what they wrote and no server sends.

    ``original`` is the 101 as the app made it, ``fields`` what may be sent of the one that passed the plugins. What
    the app said itself and nobody changed passes as without us.
    """
    own, values = set(original.pairs), _values(fields)
    kept, dropped = [], []
    for field in fields:
        if field[0] in _SERVERS_OWN and field not in own:
            dropped.append(field[0])
        elif field[0] != SUBPROTOCOL:
            kept.append(field)
    final = {**message, "headers": kept}
    if values == _values(original):
        kept.extend(field for field in translate.header_pairs(message) if field[0] == SUBPROTOCOL)
    else:
        chosen = values[0].decode("latin-1") if values else None
        # A client fails the connection when it is given what it did not offer (RFC 6455 4.1).
        if len(values) > 1 or (chosen is not None and chosen not in offers):
            dropped.append(SUBPROTOCOL)
        final["subprotocol"] = chosen if chosen in offers else None
    return final, dropped
