"""An app whose bodies a plugin changes when their head is out: longer below ``/grow``, shorter below ``/cut``."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import wasmtime

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Receive, Scope, Send

logging.basicConfig(level="INFO", format="%(name)s %(message)s")
# At the end of a response, the last piece becomes so many bytes of what is in memory.
_TEXT = """(module
  (import "env" "proxy_set_buffer_bytes" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "HTTP/1.1 200 OK\\0d\\0acontent-length: 0\\0d\\0a\\0d\\0a")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
    (if (local.get 2) (then
      (drop (call $set (i32.const 1) (i32.const 0) (i32.const 65536) (i32.const 64) (i32.const SIZE)))))
    (i32.const 0)))"""
_FOLDER = Path(tempfile.mkdtemp())


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Three pieces with a length."""
    if scope["type"] != "http":
        return
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
    for number in range(3):
        await send({"type": "http.response.body", "body": b"%d." % number, "more_body": number < 2})


def _wrapped(name: str, size: int) -> WasmMiddleware:
    file = _FOLDER / f"{name}.wasm"
    file.write_bytes(bytes(wasmtime.wat2wasm(_TEXT.replace("SIZE", str(size)))))
    return WasmMiddleware(answer, settings={"plugins": [{"name": name, "file": str(file)}]})


_APPS = {"/grow": _wrapped("growing", 38), "/cut": _wrapped("cutting", 1)}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The plugin that the path names, or none."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    await _APPS.get(scope["path"], answer)(scope, receive, send)
