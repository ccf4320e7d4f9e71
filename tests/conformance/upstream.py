"""The service that plugins call: it answers as the request's `x-user` asks, and keeps what it saw."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

_SLOW_SECONDS = 1.0
# What the connection's last bytes are instead of an answer.
_BROKEN = {
    "cut": b"",
    "head-cut": b"HTTP/1.1 200 OK\r\ncontent-le",
    "body-cut": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
    "no-http": b"what?\r\n\r\n",
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Status and body by user.
    answers: ClassVar[dict[str, tuple[int, bytes]]] = {
        "good": (200, b"welcome"),
        "nobody": (200, b"anonymous"),
        "empty": (200, b""),
        "large": (200, b"L" * 3000),
        "bad": (401, b"no"),
        "broken": (500, b"oops"),
        "slow": (200, b"late"),
        "root": (200, b"keys"),
    }

    def do_POST(self) -> None:
        user = self.headers.get("x-user", "")
        self.rfile.read(int(self.headers.get("content-length", "0")))
        if user in _BROKEN:
            self.wfile.write(_BROKEN[user])
            self.close_connection = True
            return
        if user == "never":
            # Until the client has gone.
            self.rfile.read(1)
            self.close_connection = True
            return
        if user == "slow":
            time.sleep(_SLOW_SECONDS)
        status, body = self.answers.get(user, (403, b"unknown"))
        self.send_response_only(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests look at what the plugins say."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


@contextmanager
def upstream() -> Iterator[int]:
    """The service's port on 127.0.0.1, while it runs."""
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
