"""Answers of the host's own, before any plugin: what is refused reaches neither plugin nor app."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from asgi_wasm.specs import EscapedSlashes

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Receive, Scope, Send

_TEXT = b"text/plain"
_ESCAPED = re.compile(rb"%(2F|5C)", re.IGNORECASE)
_SLASHES = {b"2f": b"/", b"5c": b"\\"}
_REASONS = {400: "Bad Request", 404: "Not Found", 503: "Service Unavailable"}


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    body: bytes,
    *,
    content_type: bytes = _TEXT,
    location: bytes | None = None,
) -> None:
    """Answer in the app's stead. A WebSocket is denied, with the same answer where the server can send one."""
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    if location is not None:
        headers.append((b"location", location))
    kind = "http"
    if scope["type"] == "websocket":
        await receive()
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1011, "reason": _REASONS.get(status, "")})
            return
        kind = "websocket.http"
    await send({"type": f"{kind}.response.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": b"" if scope.get("method") == "HEAD" else body})


async def fail_closed(scope: Scope, receive: Receive, send: Send) -> None:
    """Nothing reaches the app past plugins that do not run."""
    await refuse(scope, receive, send, 503, b"Service Unavailable")


async def refuse_unrouted(scope: Scope, receive: Receive, send: Send) -> None:
    """No route names the request, and the settings refuse what none names: APISIX's answer."""
    body = b'{"error_msg":"404 Route Not Found"}\n'
    await refuse(scope, receive, send, 404, body, content_type=b"application/json")


async def settle_slashes(action: EscapedSlashes, scope: Scope, receive: Receive, send: Send) -> Scope | None:
    """The scope to go on with, or None when the request is answered.

    Followed: Envoy `source/common/http/path_utility.cc` (`unescapeSlashes`) and the connection manager's actions.
    """
    raw_path = scope.get("raw_path")
    if not raw_path or not _ESCAPED.search(raw_path):
        return scope
    unescaped = _ESCAPED.sub(lambda match: _SLASHES[match[1].lower()], raw_path)
    if action is EscapedSlashes.UNESCAPE_AND_FORWARD:
        return {**scope, "raw_path": unescaped}
    if action is EscapedSlashes.REJECT_REQUEST:
        await refuse(scope, receive, send, 400, b"Bad Request")
    else:
        query = scope.get("query_string")
        location = b"/" + unescaped.lstrip(b"/\\") + (b"?" + query if query else b"")
        await refuse(scope, receive, send, 307, b"", location=location)
    return None
