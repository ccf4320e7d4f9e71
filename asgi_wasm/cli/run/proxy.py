"""The apps that ``asgi-wasm run`` puts behind plugins: any HTTP server as a reverse proxy, and one that echoes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx

from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.cli import console

# Of one hop (RFC 9110 7.6.1), or made anew for the other side.
_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te"),
        *(b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
# Seconds to connect; an answer may take as long as it likes.
_TIMEOUT = httpx.Timeout(None, connect=5.0)


class ReverseProxy:
    """Sends every request to a server, and its answer back, piece by piece. The client's ``host`` goes along."""

    def __init__(self, url: str) -> None:
        self._url = httpx.URL(url)
        self._transport: httpx.AsyncHTTPTransport | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI app."""
        if scope["type"] == "lifespan":
            await _live(receive, send, self.close)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"the reverse proxy passes no {scope['type']}")
        if self._transport is None:
            self._transport = httpx.AsyncHTTPTransport(trust_env=False)
        headers = _passed_on(scope["headers"])
        has_body = _has_body(scope["headers"])
        if has_body and not any(name == b"content-length" for name, _ in headers):
            headers.append((b"transfer-encoding", b"chunked"))
        request = httpx.Request(
            scope["method"],
            self._url,
            headers=headers,
            stream=_Body(receive) if has_body else None,
            extensions={"target": _target(self._url, scope), "timeout": _TIMEOUT.as_dict()},
        )
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.TransportError as error:
            told = f"{self._url} does not answer: {error or type(error).__name__}"
            console.line(f"  {told}", "red")
            await _answer(send, 502, f"{told}\n".encode())
            return
        try:
            answered = _passed_on([(name.lower(), value) for name, value in response.headers.raw])
            await send({"type": "http.response.start", "status": response.status_code, "headers": answered})
            async for piece in response.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close its connections."""
        if self._transport is not None:
            await self._transport.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    async def __aiter__(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise httpx.RemoteProtocolError("the client is gone")
            more = message.get("more_body", False)
            yield message.get("body", b"")


def _target(url: httpx.URL, scope: Scope) -> bytes:
    path: bytes = url.raw_path.partition(b"?")[0].rstrip(b"/") + scope["raw_path"]
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


def _has_body(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers)


def _passed_on(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    named = {part.strip().lower() for name, value in headers if name == b"connection" for part in value.split(b",")}
    return [(name, value) for name, value in headers if name not in _HOP and name not in named]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the request as JSON: what an app behind the plugins sees."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    body = b""
    more = scope["type"] == "http"
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    query = scope["query_string"].decode("latin-1")
    seen = {
        "method": scope.get("method"),
        "path": scope["path"],
        "query": query,
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": body.decode("utf-8", "backslashreplace"),
    }
    await _answer(send, 200, json.dumps(seen, indent=2).encode() + b"\n", b"application/json")


async def _answer(send: Send, status: int, body: bytes, kind: bytes = b"text/plain; charset=utf-8") -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _live(receive: Receive, send: Send, close: object = None) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    if callable(close):
        with suppress(Exception):
            await close()
    await send({"type": "lifespan.shutdown.complete"})
