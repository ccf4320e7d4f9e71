"""Limits that the engine keeps, from the settings to where they are kept."""

from __future__ import annotations

import gc
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from asgi_wasm import PluginLoadError, PluginStartError, SettingsError, WasmMiddleware
from tests.driving import answering, request, run
from tests.engines.hostile import EMPTY, END, LOOP, with_body
from tests.engines.wat import wasm

PLUGIN = """(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 8)) {})"""
GROWS = '(table $t 4 funcref) (func (export "proxy_on_configure") (param i32 i32) (result i32) {})'
# Refuses to start when its table cannot grow.
TABLE = PLUGIN.format(GROWS.format("(i32.ge_s (table.grow $t (ref.null func) (i32.const 6)) (i32.const 0))"))
DEEP = PLUGIN.format(
    "(func $f (param i32) (result i32) (if (i32.eqz (local.get 0)) (then (return (i32.const 1))))"
    " (i32.sub (call $f (i32.sub (local.get 0) (i32.const 1))) (i32.const 0)))"
    ' (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $f (i32.const 5000)))'
)
TRAPS = PLUGIN.format(
    '(func (export "proxy_on_context_create") (param i32 i32)) (func (export "proxy_on_request_headers")'
    " (param i32 i32 i32) (result i32) (if (i32.gt_u (local.get 1) (i32.const 9)) (then unreachable)) (i32.const 0))"
)


def wrap(folder: Path, code: bytes, limits: Any, resident: str = "auto", accelerator: str = "auto") -> WasmMiddleware:
    (folder / "p.wasm").write_bytes(code)
    settings = {
        "plugins": [{"name": "p", "file": folder / "p.wasm"}],
        "limits": limits,
        "cache_dir": str(folder / "cache"),
        "resident": resident,
        "accelerator": accelerator,
    }
    return WasmMiddleware(answering(b"app"), settings=settings)


def starts(app: WasmMiddleware) -> None:
    async def main() -> None:
        await app.start()
        assert (await request(app)).status == 200
        await app.stop()

    run(main)


@pytest.mark.parametrize(("limit", "told"), [(100_000, True), (10_000_000, False)])
def test_a_trap_near_the_limit_of_memory(
    tmp_path: Path, limit: int, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else says why a plugin had no memory."""

    async def main() -> None:
        async with wrap(tmp_path, wasm(TRAPS), {"memory": limit}) as app:
            assert (await request(app, headers=[(b"a", b"")] * 9)).status == 503

    run(main)
    assert ("; its memory has 65,536 bytes, and limits.memory is 100,000)" in caplog.text) == told
    assert "unreachable" in caplog.text


@pytest.mark.parametrize(("elements", "fits"), [(11, True), (10, True), (9, False), (4, False)])
@pytest.mark.parametrize("resident", ["auto", "off"])
def test_elements_of_a_table(tmp_path: Path, elements: int, fits: bool, resident: str) -> None:
    """With the host's own tables beside it, too."""
    app = wrap(tmp_path, wasm(TABLE), {"table_elements": elements}, resident)
    if fits:
        starts(app)
    else:
        with pytest.raises(PluginStartError, match="on_configure answered false"):
            starts(app)


@pytest.mark.parametrize("resident", ["auto", "off"])
def test_one_element_and_one_page(tmp_path: Path, resident: str) -> None:
    """The host's own table and memory are larger than what the plugin may have."""
    starts(wrap(tmp_path, wasm(PLUGIN.format("(table 1 1 funcref)")), {"table_elements": 1}, resident))
    starts(wrap(tmp_path, wasm(PLUGIN.format("")), {"memory": 65536}, resident))


def test_a_plugin_has_one_memory(tmp_path: Path) -> None:
    with pytest.raises(PluginLoadError, match="it has 2 memories, and a plugin has one"):
        starts(wrap(tmp_path, wasm(PLUGIN.format("(memory 1)")), {}))


def test_the_stack(tmp_path: Path) -> None:
    """The same code, from the same cache, with more of it and with less."""
    starts(wrap(tmp_path, wasm(DEEP), {}))
    with pytest.raises(PluginStartError, match="call stack exhausted"):
        starts(wrap(tmp_path, wasm(DEEP), {"stack": 64 * 1024}))
    starts(wrap(tmp_path, wasm(DEEP), {"stack": 1024 * 1024}))


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="only CPython counts references")
@pytest.mark.parametrize(
    "settings", [{}, {"accelerator": "off"}, {"resident": "off"}], ids=["accelerator", "kernel", "neither"]
)
def test_a_vm_that_is_over_needs_no_garbage_collector(tmp_path: Path, settings: dict[str, str]) -> None:
    """It has up to `limits.memory` bytes; of a server that makes no cycles, the collector rarely comes."""

    def stores() -> int:
        return sum(type(each) is wasmtime.Store for each in gc.get_objects())

    async def main() -> None:
        gc.collect()
        before = stores()
        app = wrap(tmp_path, wasm(TRAPS), {}, **settings)
        await app.start()
        gc.disable()
        try:
            for _ in range(3):
                assert (await request(app, headers=[(b"x-many", b"1")] * 10)).status == 503
                assert (await request(app)).status == 200
                assert stores() == before + 1
            await app.stop()
            assert stores() == before
        finally:
            gc.enable()

    run(main)


@pytest.mark.parametrize("size", [64 * 1024 - 1, 2 * 1024 * 1024 + 1, 0])
def test_a_stack_that_cannot_be(tmp_path: Path, size: int) -> None:
    with pytest.raises(SettingsError, match=r"limits\.stack"):
        starts(wrap(tmp_path, wasm(DEEP), {"stack": size}))


def test_what_takes_long_to_compile_is_broken(tmp_path: Path) -> None:
    count = 5000
    code = with_body((LOOP + EMPTY) * count + END * count)
    began = time.monotonic()
    with pytest.raises(PluginLoadError, match="it is not compiled after 50 ms"):
        starts(wrap(tmp_path, code, {"compile_ms": 50}))
    assert time.monotonic() - began < 60
    # The thread goes on, and keeps nobody from ending.
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "asgi-wasm compiler")
