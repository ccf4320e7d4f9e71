"""One request in process: what the app saw, what the client got, and what the plugin did in between."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from starlette.datastructures import Headers

from asgi_wasm.asgi.types import Scope
from asgi_wasm.services.traces import text as rendering
from asgi_wasm.testing.connection import Response
from asgi_wasm.testing.records import Calls, LogLine

# What an argument is that is not given, where None is a value.
NOT_GIVEN: Any = object()
GivenHeaders = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
_AUTHORITY = b"example.test"


@dataclass
class SeenRequest:
    """What reached the app. ``target`` is the path as it was sent, with its query."""

    method: str
    target: str
    path: str
    headers: Headers
    scheme: str
    body: bytes = b""
    # Whether the app read it to its end.
    complete: bool = False
    scope: Scope = field(default_factory=dict, repr=False)

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def head(self) -> str:
        """Method, target and headers as text."""
        return rendering.head(f"{self.method} {self.target}", self.headers.raw)


@dataclass
class Exchange:
    """A request and its response. ``status`` is 0 and ``was_reset`` true where the connection was cut.

    ``app`` is None when the request did not reach the app. ``calls`` are the plugin's hostcalls, ``callbacks`` the
    host's calls, ``logs`` what was logged, all of them between the request's begin and its end.
    """

    status: int = 0
    headers: Headers = field(default_factory=lambda: Headers(raw=[]))
    chunks: list[bytes] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    app: SeenRequest | None = None
    was_reset: bool = False
    # What plugins set by `proxy_set_property`, by path.
    properties: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    calls: Calls = field(default_factory=Calls, repr=False)
    callbacks: Calls = field(default_factory=Calls, repr=False)
    logs: list[LogLine] = field(default_factory=list, repr=False)
    trace: Calls = field(default_factory=Calls, repr=False)

    def keep(self, response: Response) -> None:
        """What the client got."""
        if response.is_started:
            self.status, self.headers = response.status, Headers(raw=response.headers)
        self.chunks, self.trailers = response.chunks, response.trailers
        self.was_reset = not response.complete

    @property
    def body(self) -> bytes:
        """The whole body that the client got."""
        return b"".join(self.chunks)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "backslashreplace")

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def head(self) -> str:
        """Status and headers as text."""
        return rendering.head(str(self.status), self.headers.raw)


def encoded(headers: GivenHeaders) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them: names in lower case."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(_bytes(name).lower(), _bytes(value)) for name, value in pairs]


def _bytes(text: str | bytes) -> bytes:
    if not isinstance(text, (str, bytes)):
        raise TypeError(f"{text!r} is neither text nor bytes, as names and values of headers are")
    return text if isinstance(text, bytes) else text.encode("latin-1")


def pieces_of(body: bytes | str | Iterable[bytes | str]) -> list[bytes]:
    """A body as it is sent. Raises TypeError for what is none."""
    given = [body] if isinstance(body, (str, bytes)) else None if isinstance(body, Mapping) else list(body)
    if given is None or not all(isinstance(piece, (str, bytes)) for piece in given):
        raise TypeError(f"{body!r} is no body: that is text, bytes, or several of them; json= makes one of a value")
    return [piece.encode() if isinstance(piece, str) else piece for piece in given]


def scope_of(method: str, target: str, headers: list[tuple[bytes, bytes]], **more: Any) -> dict[str, Any]:
    """As a server makes it of a request line and headers; ``target`` may have any characters."""
    raw = quote(target, safe="/?%:@!$&'()*+,;=-._~[]|").encode("ascii")
    path, _, query = raw.partition(b"?")
    named = [] if any(name == b"host" for name, _ in headers) else [(b"host", _AUTHORITY)]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [*named, *headers],
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8000),
        **more,
    }
