"""Servers on this machine to fetch from: each path has its own answer, however bad."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

GOOD = b"\0asm\1\0\0\0"

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, list[str]]:
        """Its parameters."""
        return parse_qs(urlsplit(self.target).query)


@dataclass
class Site:
    """What is answered, by path, and what was asked."""

    port: int = 0
    scheme: str = "https"
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    # Set when the test is over, for answers that have no end.
    over: Event = field(default_factory=Event)

    def url(self, path: str) -> str:
        """Of something here."""
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"

    def paths(self) -> list[str]:
        """Those that were asked for."""
        return [urlsplit(each.target).path for each in self.asked]


def content(body: bytes, status: int = 200, **headers: str) -> Answer:
    """A whole answer; names of headers have ``_`` for ``-``."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"content_length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def redirect(to: str, status: int = 302) -> Answer:
    """To another URL."""
    return content(b"elsewhere", status, location=to)


def as_json(value: object, status: int = 200, **headers: str) -> Answer:
    """A value."""
    return content(json.dumps(value).encode(), status, **headers)


def digest_of(body: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return sha256(body).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        # On the connection's own thread, so that a handshake holds nobody up.
        try:
            if self.context is not None:
                request = self.context.wrap_socket(request, server_side=True)
            super().finish_request(request, client_address)
        except OSError:
            return
        finally:
            request.close()


@contextmanager
def served(context: ssl.SSLContext | None) -> Iterator[Site]:
    """A server with TLS, or without where there is no context."""
    site = Site(scheme="http" if context is None else "https")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            site.asked.append(Asked(self.command, self.path, dict(self.headers.items()), body))
            site.answers.get(urlsplit(self.path).path, content(b"", 404))(self)

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    server = _Server(("127.0.0.1", 0), Handler)
    server.context = context
    site.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        site.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
