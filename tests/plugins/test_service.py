"""A service plugin runs its root context only: the Rust SDK panics on a stream context that it did not ask for."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from asgi_wasm import WasmMiddleware
from tests.driving import answering, request, until

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
async def test_a_service_has_no_streams(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, service: bool, status: int
) -> None:
    (tmp_path / "service.wasm").write_bytes(wasmtime.wat2wasm(WAT))
    entry: dict[str, Any] = {"name": "service", "file": tmp_path / "service.wasm", "service": service}

    def ticks() -> int:
        return sum(record.getMessage() == "tick" for record in caplog.records)

    with caplog.at_level(logging.INFO, logger="asgi_wasm"):
        app = WasmMiddleware(answering(b"app"), settings={"plugins": [entry], "cache_dir": str(tmp_path / "cache")})
        await app.start()
        assert [(await request(app)).status for _ in range(3)] == [status] * 3
        if service:
            await until(lambda: ticks() >= 2)
        await app.stop()
