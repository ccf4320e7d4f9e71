"""Messages and headers of the tests here."""

from __future__ import annotations

from asgi_wasm.asgi.types import Message

LENGTH = [(b"content-length", b"6")]
CHUNKED = [(b"transfer-encoding", b"chunked")]
START: Message = {"type": "http.response.start", "status": 200, "headers": []}


def body(data: bytes, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}
