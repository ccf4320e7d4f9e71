"""A service plugin runs its root context only: the Rust SDK panics on a stream context that it did not ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

from tests.plugins.conftest import Make

# Traps on any context but a root; logs each tick.
WAT = """(module
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "tick")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_context_create") (param i32 i32) (if (local.get 1) (then unreachable)))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $tick (i32.const 5))) (i32.const 1))
  (func (export "proxy_on_tick") (param i32)
    (drop (call $log (i32.const 2) (i32.const 100) (i32.const 4)))))"""


@pytest.mark.parametrize(("service", "status"), [(True, 200), (False, 503)])
async def test_a_service_has_no_streams(tmp_path: Path, wasm_plugin: Make, service: bool, status: int) -> None:
    (tmp_path / "service.wasm").write_bytes(wasmtime.wat2wasm(WAT))
    plugin = wasm_plugin(tmp_path / "service.wasm", service=service)
    assert [(await plugin.get()).status for _ in range(3)] == [status] * 3
    await plugin.advance(0.01)
    assert [line.text for line in plugin.logs if not line.by_host] == (["tick"] * 2 if service else [])
