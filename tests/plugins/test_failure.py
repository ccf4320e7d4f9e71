"""A VM that fails elsewhere does not leave streams waiting for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import wasmtime

from tests.plugins.conftest import Make

# Pauses every request with x-pause; the second tick of 20 ms traps.
WAT = """(module
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "x-pause")
  (global $ticks (mut i32) (i32.const 0))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $tick (i32.const 20))) (i32.const 1))
  (func (export "proxy_on_tick") (param i32)
    (global.set $ticks (i32.add (global.get $ticks) (i32.const 1)))
    (if (i32.eq (global.get $ticks) (i32.const 2)) (then unreachable)))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (i32.eqz (call $get (i32.const 0) (i32.const 100) (i32.const 7) (i32.const 0) (i32.const 4)))))"""


@pytest.mark.parametrize(("policy", "status"), [("fail_closed", 503), ("fail_open", 200)])
async def test_trap_in_a_tick_ends_pauses(tmp_path: Path, wasm_plugin: Make, policy: str, status: int) -> None:
    (tmp_path / "ticking.wasm").write_bytes(wasmtime.wat2wasm(WAT))
    plugin = wasm_plugin(tmp_path / "ticking.wasm", failure_policy=policy)
    plugin.app.respond(body=b"app")
    await plugin.start()
    paused = [plugin.begin("GET", headers={"x-pause": "1"}) for _ in range(5)]
    await plugin.advance(0.039)
    assert not any(request.done() for request in paused)
    await plugin.advance(0.001)
    assert [exchange.status for exchange in await asyncio.gather(*paused)] == [status] * 5
    # The next request gets a fresh VM.
    assert (await plugin.get()).body == b"app"
