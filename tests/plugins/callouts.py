"""Writes the configuration of the plugin `callouts`, runs it, and reads what it logged."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp
from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.testing.hosted import HostedPlugins
from tests.driving import answering

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
Pairs = Sequence[tuple[bytes, bytes]]


def http(
    path: bytes = b"/",
    *,
    method: bytes = b"GET",
    authority: bytes = b"auth.test",
    more: Pairs = (),
    body: bytes = b"",
    trailers: Pairs = (),
    timeout: int = 0,
    upstream: str = "up",
) -> str:
    """A call with the usual pseudo-headers. ``timeout`` in milliseconds."""
    pairs = [(b":method", method), (b":path", path), (b":authority", authority), *more]
    return raw_http(encode_pairs(pairs), body=body, trailers=trailers, timeout=timeout, upstream=upstream)


def raw_http(pairs: bytes, *, body: bytes = b"", trailers: Pairs = (), timeout: int = 0, upstream: str = "up") -> str:
    return f"http {upstream} {timeout} {_hex(pairs)} {_hex(body)} {_hex(encode_pairs(trailers))}"


def foreign(name: str, arguments: bytes = b"") -> str:
    return f"foreign {name} {_hex(arguments)}"


def get(path: bytes) -> str:
    return f"get {_hex(path)}"


def put(path: bytes, value: bytes) -> str:
    return f"set {_hex(path)} {_hex(value)}"


def register(name: bytes) -> str:
    return f"register {_hex(name)}"


def enqueue(value: bytes) -> str:
    return f"enqueue {_hex(value)}"


def conf(**steps: Sequence[str]) -> str:
    """Callbacks with their steps, in this order."""
    return "\n".join(f"{callback} {step}" for callback, found in steps.items() for step in found)


def _hex(value: bytes) -> str:
    return value.hex() or "-"


@asynccontextmanager
async def plugged(
    script: str | Sequence[str],
    port: int | None = None,
    *,
    app: ASGIApp | None = None,
    upstreams: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    vm_conf: str = "",
    **arguments: Any,
) -> AsyncIterator[WasmMiddleware]:
    """The plugin `callouts` in front of an app, once for each script; the last one is the innermost."""
    scripts = [script] if isinstance(script, str) else script
    plugins = [
        # Each a VM of its own, since each is to have its own steps.
        {"name": name, "file": PLUGINS / "callouts/c.wasm", "conf": text, "vm_id": name, "vm_conf": vm_conf}
        for name, text in zip(("callouts", "second", "third"), scripts, strict=False)
    ]
    if upstreams is None:
        upstreams = {} if port is None else {"up": f"http://127.0.0.1:{port}"}
    middleware = WasmMiddleware(
        app or answering(b"app"),
        settings={"plugins": plugins, "upstreams": upstreams, **(settings or {})},
        **arguments,
    )
    await middleware.start()
    try:
        yield middleware
    finally:
        await middleware.stop()


def said(caplog: pytest.LogCaptureFixture, pattern: str = "", plugin: str = "callouts") -> list[str]:
    """What the plugin has logged so far, of the lines in which the pattern is found."""
    lines = [record.getMessage() for record in caplog.records if record.name == f"asgi_wasm.plugin.{plugin}"]
    return [line for line in lines if re.search(pattern, line)]


def lines(plugin: HostedPlugins, pattern: str = "", name: str = "callouts") -> list[str]:
    """The same of a plugin in the testing kit."""
    return [line.text for line in plugin[name].logs if not line.by_host and re.search(pattern, line.text)]
