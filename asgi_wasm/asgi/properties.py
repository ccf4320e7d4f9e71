"""Properties of a request and its response, as far as an ASGI scope can tell them.

Names and types: Envoy `docs/root/intro/arch_overview/advanced/attributes.rst`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from asgi_wasm.asgi.messages.translate import status_of
from asgi_wasm.asgi.types import Scope
from asgi_wasm.host.abi import MapType
from asgi_wasm.host.streams.local_reply import grpc_status_of

if TYPE_CHECKING:
    from asgi_wasm.host.codecs.wire import PropertyValue
    from asgi_wasm.host.streams.header_map import HeaderMap
    from asgi_wasm.host.vm.contexts import Chain


# Key of a scope: attributes by path, which win over the host's own. Tests give them (`asgi_wasm.testing`).
GIVEN_ATTRIBUTES = "asgi_wasm.attributes"


class PluginProperties(Mapping[str, bytes]):
    """What plugins set on this request by `proxy_set_property`, by path; live, read-only. ``scope["asgi_wasm"]``."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[bytes, bytes]) -> None:
        self._values = values

    def __getitem__(self, path: str) -> bytes:
        return self._values[path.encode("utf-8", "surrogateescape")]

    def __iter__(self) -> Iterator[str]:
        return (path.decode("utf-8", "surrogateescape") for path in self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"PluginProperties({dict(self)!r})"

    def text(self, path: str, default: str = "") -> str:
        """The value as text, bytes that are no UTF-8 replaced; ``default`` when it was not set."""
        value = self.get(path)
        return default if value is None else value.decode("utf-8", "replace")


# Of requests whose plugins can set none.
NO_PROPERTIES = PluginProperties({})


def properties_of(scope: Scope) -> dict[bytes, bytes]:
    """Where the plugins of a request keep what they set.

    Where another of our middlewares stands outside, it is the same place: as in Envoy, a request has one, whatever
    filters it goes through.
    """
    outer = scope.get("asgi_wasm")
    values = outer._values if isinstance(outer, PluginProperties) else None
    return values if isinstance(values, dict) else {}


class ScopeAttributes:
    """`host.ports.Attributes` of one exchange. Values are worked out when asked for."""

    def __init__(self, scope: Scope, began: int | None = None) -> None:
        """``began`` is when the request did, by the monotonic clock, if that was not just now."""
        self._scope = scope
        self._began_at = time.time_ns()
        self._began = now = time.monotonic_ns()
        if began is not None:
            self._began_at -= now - began
            self._began = began
        # Set by the exchange, before any plugin runs.
        self.chain: Chain | None = None
        self.request_size = 0
        # Bytes of the response's body that are on their way to the client.
        self.bytes_sent: Callable[[], int] = lambda: 0
        self.finished = False

    def get(self, path: tuple[bytes, ...]) -> PropertyValue | None:
        """The attribute at this path, or None. A prefix of one (``request``) is no attribute here."""
        given = self._scope.get(GIVEN_ATTRIBUTES)
        if given is not None and path in given:
            value: PropertyValue = given[path]
            return value
        headers = _HEADERS.get(path[:2])
        if headers is not None and len(path) == 3:
            found = headers(self)
            values = [] if found is None else found.get_all(path[2])
            return b",".join(values) if values else None
        getter = _ATTRIBUTES.get(path)
        return None if getter is None else getter(self)

    # --- request

    def request_header(self, name: bytes) -> bytes | None:
        """The first value of a request header."""
        headers = self._request_headers()
        return None if headers is None else headers.get(name)

    def _request_headers(self) -> HeaderMap | None:
        return None if self.chain is None else self.chain.logged_map(MapType.HTTP_REQUEST_HEADERS)

    def request_map(self) -> Mapping[bytes, PropertyValue]:
        """All request headers; values of a repeated one are joined by commas."""
        return _joined(self._request_headers())

    def header_bytes(self, headers: HeaderMap | None) -> int:
        """Bytes of names and values."""
        return 0 if headers is None else headers.byte_size

    def url_path(self) -> bytes | None:
        """The path without the query."""
        path = self.request_header(b":path")
        return None if path is None else path.partition(b"?")[0]

    def query(self) -> bytes | None:
        """What follows the question mark; empty when there is none."""
        path = self.request_header(b":path")
        return None if path is None else path.partition(b"?")[2]

    def duration(self) -> int | None:
        """Nanoseconds from the request to the response's end; not there before."""
        return time.monotonic_ns() - self._began if self.finished else None

    def protocol(self) -> str:
        """As Envoy spells it."""
        version = self._scope.get("http_version") or "1.1"
        return {"2": "HTTP/2", "3": "HTTP/3"}.get(version, f"HTTP/{version}")

    # --- response

    def response_headers(self) -> HeaderMap | None:
        """The response's header map, once there is one."""
        return None if self.chain is None else self.chain.logged_map(MapType.HTTP_RESPONSE_HEADERS)

    def response_code(self) -> int | None:
        """The status as a number: the app's own until the end, then the one that was sent."""
        headers = self.response_headers()
        if headers is None:
            return None
        if not self.finished and self.chain is not None and self.chain.status.isdigit():
            return int(self.chain.status)
        if self._scope["type"] == "websocket" and headers.get(b":status") == b"101":
            return 101
        return status_of(headers)

    def response_trailers(self) -> HeaderMap | None:
        """The response's trailers, once there are any."""
        return None if self.chain is None else self.chain.logged_map(MapType.HTTP_RESPONSE_TRAILERS)

    def response_grpc_status(self) -> int | None:
        """From trailers, else headers, else what the status would mean to gRPC."""
        for headers in (self.response_trailers(), self.response_headers()):
            value = None if headers is None else headers.get(b"grpc-status")
            if value is not None and value.isdigit():
                return int(value)
        code = self.response_code()
        return None if code is None else grpc_status_of(code)

    def code_details(self) -> bytes | None:
        """What a local response gave as details; Envoy's word for an answer of the app otherwise."""
        if self.chain is None or self.response_headers() is None:
            return None
        return self.chain.local_details if self.chain.answered_locally else b"via_upstream"

    # --- connection

    def address(self, key: str) -> str | None:
        """``ip:port`` of the client or the server."""
        pair = self._scope.get(key)
        if not pair:
            return None
        host, port = pair
        if port is None:
            return str(host)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def port(self, key: str) -> int | None:
        """The port of the client or the server."""
        pair = self._scope.get(key)
        return pair[1] if pair else None

    def tls(self, key: str) -> str | None:
        """From ASGI's TLS extension, where the server has it."""
        extension = (self._scope.get("extensions") or {}).get("tls")
        value = None if extension is None else extension.get(key)
        if key == "tls_version" and isinstance(value, int):
            return _TLS_VERSIONS.get(value)
        return value

    def began_at(self) -> int:
        """Nanoseconds since the epoch."""
        return self._began_at


# RFC 8446 and before, in Envoy's spelling; the extension gives the number on the wire.
_TLS_VERSIONS = {0x0301: "TLSv1", 0x0302: "TLSv1.1", 0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}


_Getter = Callable[[ScopeAttributes], "PropertyValue | None"]


def _joined(headers: HeaderMap | None) -> Mapping[bytes, PropertyValue]:
    joined: dict[bytes, PropertyValue] = {}
    for name, value in () if headers is None else headers.pairs:
        before = joined.get(name)
        joined[name] = before + b"," + value if isinstance(before, bytes) else value
    return joined


def _request_header(name: bytes) -> _Getter:
    return lambda attributes: attributes.request_header(name)


# Maps of which single values can be asked for.
_HEADERS: dict[tuple[bytes, ...], Callable[[ScopeAttributes], HeaderMap | None]] = {
    (b"request", b"headers"): ScopeAttributes._request_headers,
    (b"response", b"headers"): ScopeAttributes.response_headers,
    (b"response", b"trailers"): ScopeAttributes.response_trailers,
}

_ATTRIBUTES: dict[tuple[bytes, ...], _Getter] = {
    # Envoy's dynamic metadata, of which there is none: an empty message.
    (b"metadata",): lambda _: b"",
    (b"request", b"path"): _request_header(b":path"),
    (b"request", b"url_path"): ScopeAttributes.url_path,
    (b"request", b"host"): _request_header(b":authority"),
    (b"request", b"scheme"): _request_header(b":scheme"),
    (b"request", b"method"): _request_header(b":method"),
    (b"request", b"headers"): ScopeAttributes.request_map,
    (b"request", b"headers_bytes"): lambda a: a.header_bytes(a._request_headers()),
    (b"request", b"referer"): _request_header(b"referer"),
    (b"request", b"useragent"): _request_header(b"user-agent"),
    (b"request", b"id"): _request_header(b"x-request-id"),
    (b"request", b"time"): ScopeAttributes.began_at,
    (b"request", b"protocol"): ScopeAttributes.protocol,
    (b"request", b"query"): ScopeAttributes.query,
    (b"request", b"duration"): ScopeAttributes.duration,
    (b"request", b"size"): lambda a: a.request_size,
    (b"request", b"total_size"): lambda a: a.request_size + a.header_bytes(a._request_headers()),
    (b"response", b"code"): ScopeAttributes.response_code,
    (b"response", b"code_details"): ScopeAttributes.code_details,
    (b"response", b"flags"): lambda _: 0,
    (b"response", b"grpc_status"): ScopeAttributes.response_grpc_status,
    (b"response", b"headers"): lambda a: _joined(a.response_headers()),
    (b"response", b"headers_bytes"): lambda a: a.header_bytes(a.response_headers()),
    (b"response", b"trailers"): lambda a: _joined(a.response_trailers()),
    (b"response", b"size"): lambda a: a.bytes_sent(),
    (b"response", b"total_size"): lambda a: a.bytes_sent() + a.header_bytes(a.response_headers()),
    (b"source", b"address"): lambda a: a.address("client"),
    (b"source", b"port"): lambda a: a.port("client"),
    (b"destination", b"address"): lambda a: a.address("server"),
    (b"destination", b"port"): lambda a: a.port("server"),
    (b"connection", b"mtls"): lambda a: a.tls("client_cert_name") is not None,
    (b"connection", b"requested_server_name"): lambda a: a.tls("server_name") or "",
    (b"connection", b"tls_version"): lambda a: a.tls("tls_version"),
    (b"connection", b"subject_peer_certificate"): lambda a: a.tls("client_cert_name"),
}
