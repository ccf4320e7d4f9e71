"""A middleware that counts, around real plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wasmtime

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp
from tests.plugins.conftest import PLUGINS
from tests.services.metrics.scraping import Scrape

# Per request header: "t" traps, "g" grows memory by a page, "c" closes the stream.
WAT = """(module
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "tgc")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func $has (param i32) (result i32)
    (i32.eqz (call $get (i32.const 0) (local.get 0) (i32.const 1) (i32.const 0) (i32.const 4))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (if (call $has (i32.const 100)) (then unreachable))
    (if (call $has (i32.const 101)) (then (drop (memory.grow (i32.const 1)))))
    (if (call $has (i32.const 102)) (then (drop (call $close (i32.const 0)))))
    (i32.const 0)))"""
PAGE = 65536


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    file = tmp_path / "probe.wasm"
    file.write_bytes(wasmtime.wat2wasm(WAT))
    return file


def wrapped(app: ASGIApp, *plugins: dict[str, Any], metrics: Any = True, **settings: Any) -> WasmMiddleware:
    return WasmMiddleware(app, settings={"plugins": list(plugins), "metrics": metrics, "routes": [], **settings})


def plugin(name: str, file: str | Path, **more: Any) -> dict[str, Any]:
    return {"name": name, "file": PLUGINS / file, **more}


def actions(found: Scrape, name: str) -> dict[tuple[str, str], float]:
    """(callback, action) -> how often, of one plugin."""
    result = {}
    for labels, value in found.all("asgi_wasm_actions_total").items():
        by_name = dict(labels)
        if by_name["plugin"] == name:
            result[by_name["callback"], by_name["action"]] = value
    return result
