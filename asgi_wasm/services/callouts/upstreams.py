"""A named target of HTTP calls: how many may go there at once, and what is sent."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Protocol

import httpx

from asgi_wasm.errors import MissingExtraError
from asgi_wasm.host.effects import HttpCall
from asgi_wasm.host.streams.header_map import HeaderMap
from asgi_wasm.http_syntax import FIELD_VALUE, TOKEN
from asgi_wasm.services.callouts.connector import connector_to
from asgi_wasm.services.callouts.messages import Answer, OverflowingError, Request, UnsendableError
from asgi_wasm.services.callouts.pool import Pool
from asgi_wasm.services.callouts.turns import Turns
from asgi_wasm.specs import UpstreamSpec

# Envoy's circuit breaker defaults to 1024 connections of a cluster and as many calls that wait for one.
MAX_CONNECTIONS = 1024
MAX_PENDING = 1024

_TOKEN = re.compile(TOKEN.encode())
_VALUE = re.compile(FIELD_VALUE.encode())
# RFC 9112 3.2 wants visible characters in a target.
_TARGET = re.compile(rb"[\x21-\x7e]+")
# How a message ends is the client's affair: the whole body is known.
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
# Envoy's codec announces an empty body for any other method.
_WITHOUT_BODY = frozenset({b"GET", b"HEAD", b"DELETE", b"TRACE"})


class Carrier(Protocol):
    """What brings requests there."""

    async def exchange(self, request: Request, answer: Answer) -> None:
        """Send it, and fill ``answer``. Raises `CalloutError`.

        The caller's, since it outlives a call that is cancelled: what had come of it when its time was up decides what
        the plugin is told.
        """
        ...

    async def close(self) -> None:
        """Close what it holds."""
        ...


class Upstream:
    """HTTP/2 is spoken on ``https://`` when the server takes it (ALPN), and on ``http://`` without asking."""

    def __init__(self, spec: UpstreamSpec, turns: Turns, carrier: Carrier | None = None) -> None:
        """``carrier`` is used in place of connections.

        Raises `MissingExtraError` when it wants HTTP/2 and the library is not there.
        """
        if spec.http2 and find_spec("h2") is None:
            raise MissingExtraError(f"upstream {spec.name!r} wants http2: pip install 'asgi-wasm[http2]'")
        self.spec = spec
        self._turns = turns
        self._under_way = 0
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        self._is_secure = httpx.URL(spec.url).scheme == "https"
        self._own = HeaderMap()
        for name, value in spec.headers:
            self._own.add(name.encode("latin-1"), value.encode("latin-1"))
        self._carrier = carrier or self._make_carrier(turns)

    def _make_carrier(self, turns: Turns) -> Carrier:
        http1 = Pool(connector_to(self.spec, ["http/1.1"]), turns)
        if not self.spec.http2:
            return http1
        from asgi_wasm.services.callouts.shared_pool import SharedPool

        return SharedPool(connector_to(self.spec, ["h2", "http/1.1"]), http1, turns)

    async def exchange(self, call: HttpCall, answer: Answer) -> None:
        """Send it, and fill ``answer``. Raises `CalloutError`."""
        async with self._place():
            # Before any work: a thousand are often asked for together.
            await self._turns.turn()
            await self._carrier.exchange(self.request(call), answer)

    async def close(self) -> None:
        """Close its connections."""
        await self._carrier.close()

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Wait for a call's turn; it lasts as long as the context. Raises `OverflowingError`."""
        if self._under_way >= MAX_CONNECTIONS + MAX_PENDING:
            raise OverflowingError(f"{self._under_way} calls are under way")
        self._under_way += 1
        try:
            async with self._free:
                yield
        finally:
            self._under_way -= 1

    def request(self, call: HttpCall) -> Request:
        """The plugin's request as it is, with the settings' headers in place of its own of the same names.

        Raises `UnsendableError`.
        """
        headers = HeaderMap(call.headers)
        method, target = headers.get(b":method") or b"", headers.get(b":path") or b""
        authority = self._own.get(b"host") or headers.get(b":authority") or b""
        replaced = _FRAMING.union(name for name, _ in self._own.pairs)
        fields = [(b"host", authority)]
        fields += [pair for pair in headers.pairs if pair[0] not in replaced]
        fields += [pair for pair in self._own.pairs if pair[0] != b"host"]
        fields = [(name, value.strip(b" \t")) for name, value in fields if name and not name.startswith(b":")]
        if call.body or method not in _WITHOUT_BODY:
            fields.append((b"content-length", b"%d" % len(call.body)))
        _check(method, target, fields)
        return Request(method, target, fields, call.body, b"https" if self._is_secure else b"http")


def _check(method: bytes, target: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    """Envoy sends a strange method or path as it is; the client here would not."""
    if not _TOKEN.fullmatch(method):
        raise UnsendableError(b"invalid header value for: :method")
    if method == b"CONNECT":
        raise UnsendableError(b"missing required header: :protocol")
    if not _TARGET.fullmatch(target):
        raise UnsendableError(b"invalid header value for: :path")
    for name, value in fields:
        if not _TOKEN.fullmatch(name):
            raise UnsendableError(b"invalid header name: " + name)
        if not _VALUE.fullmatch(value):
            raise UnsendableError(b"invalid header value for: " + name)
