"""A named target of HTTP calls as httpx sees it: its connections, and the requests that go there."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx

from asgi_wasm.errors import MissingExtraError
from asgi_wasm.host.effects import HttpCall
from asgi_wasm.host.header_map import HeaderMap
from asgi_wasm.http_syntax import FIELD_VALUE, TOKEN
from asgi_wasm.specs import UpstreamSpec

# Seconds. Envoy's `connect_timeout` of a cluster defaults to five.
CONNECT_TIMEOUT = 5.0
# Envoy's circuit breaker defaults to 1024 connections of a cluster and as many calls that wait for one. Calls must not
# wait inside of httpx's pool: there each new one looks at every pair of a waiting call and a connection.
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


class UnsendableError(Exception):
    """Raised for a request that HTTP cannot carry; ``words`` are Envoy's."""

    def __init__(self, words: bytes) -> None:
        super().__init__(words.decode("latin-1"))
        self.words = words


class OverflowingError(Exception):
    """Raised for a call when as many are under way, and waiting, as may be."""


class Upstream:
    """Calls use the transport below httpx's client: the client would follow redirects, keep cookies and decode bodies.

    HTTP/2 is spoken on ``https://`` when the server takes it (ALPN), and on ``http://`` without asking.
    """

    def __init__(self, spec: UpstreamSpec) -> None:
        """Raises `MissingExtraError` when it wants HTTP/2 and the library is not there."""
        if spec.http2 and find_spec("h2") is None:
            raise MissingExtraError(f"upstream {spec.name!r} wants http2: pip install 'asgi-wasm[http2]'")
        self.spec = spec
        self._under_way = 0
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        self._url = httpx.URL(spec.url)
        secure = self._url.scheme == "https"
        self._own = HeaderMap()
        for name, value in spec.headers:
            self._own.add(name.encode("latin-1"), value.encode("latin-1"))
        self.transport = httpx.AsyncHTTPTransport(
            http1=secure or not spec.http2,
            http2=spec.http2,
            # Certificates take long to load: not for nothing.
            verify=secure and _verify(spec.verify),
            # Nothing of the environment, and no second try that nobody asked for.
            trust_env=False,
            retries=0,
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
        )

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a call's turn; it lasts as long as the context. Raises `OverflowingError`."""
        if self._under_way >= MAX_CONNECTIONS + MAX_PENDING:
            raise OverflowingError(f"{self._under_way} calls are under way")
        self._under_way += 1
        try:
            async with self._free:
                yield
        finally:
            self._under_way -= 1

    def request(self, call: HttpCall) -> httpx.Request:
        """The plugin's request as it is, with the settings' headers in place of its own of the same names.

        httpx adds nothing to it. Raises `UnsendableError`.
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
        request = httpx.Request(
            method.decode("ascii"),
            self._url,
            headers=fields,
            content=call.body or None,
            extensions={
                "target": target,
                "timeout": {"connect": CONNECT_TIMEOUT, "read": None, "write": None, "pool": None},
            },
        )
        # As the plugin spelled it: httpx puts it in capitals.
        request.method = method.decode("ascii")
        return request


def _verify(verify: bool | Path) -> ssl.SSLContext | bool:
    return ssl.create_default_context(cafile=verify) if isinstance(verify, Path) else verify


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
