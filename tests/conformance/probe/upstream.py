"""What HTTP calls go to: small, and the same for both hosts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Handler(BaseHTTPRequestHandler):
    """201 with the request's body; ``/never`` gives none, ``/cut`` breaks off in the middle."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.path == "/never":
            # Until the client has gone.
            self.rfile.read(1)
            self.close_connection = True
            return
        self.send_response(201)
        self.send_header("x-answer", "1")
        self.send_header("content-length", str(len(body) + (7 if self.path == "/cut" else 0)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.path == "/cut"

    # Named by the base class.
    do_GET = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not wait for the answer is no news."""


@contextmanager
def upstream() -> Iterator[int]:
    """Its port on 127.0.0.1."""
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
