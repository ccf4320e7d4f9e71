"""Modules that trap in one callback, made from text: no SDK's plugin does so at will."""

from __future__ import annotations

from pathlib import Path

import wasmtime

_PHASES = {
    "request_headers": "(param i32 i32 i32) (result i32)",
    "request_body": "(param i32 i32 i32) (result i32)",
    "response_headers": "(param i32 i32 i32) (result i32)",
    "response_body": "(param i32 i32 i32) (result i32)",
    "log": "(param i32)",
}
PHASES = tuple(_PHASES)


def write(folder: Path, phase: str) -> Path:
    """A module whose `proxy_on_<phase>` traps."""
    path = folder / f"trap_{phase}.wasm"
    text = f"""(module
        (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) i32.const 1024)
        (func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_{phase}") {_PHASES[phase]} unreachable))"""
    path.write_bytes(bytes(wasmtime.wat2wasm(text)))
    return path
