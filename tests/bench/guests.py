"""Modules made for one measurement each, from WebAssembly's text."""

from __future__ import annotations

from pathlib import Path

import wasmtime

_MODULE = """(module
  {imports}
  (memory (export "memory") 4)
  (data (i32.const 16) "user-agent\\00request\\00method\\00count")
  (global $next (mut i32) (i32.const 65536))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32)
    (global.get $next) (global.set $next (i32.add (global.get $next) (i32.and (i32.add (local.get 0) (i32.const 15))
    (i32.const -16)))))
  (func (export "proxy_on_context_create") (param i32 i32))
  {functions})"""

_LOOP = """(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (local $left i32)
  {once}
  (local.set $left (i32.const {count}))
  (block $over (loop $again
    (br_if $over (i32.eqz (local.get $left)))
    (global.set $next (i32.const 65536))
    (drop (call $hostcall {arguments}))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br $again)))
  (i32.const 0))"""

_KEY = "(i32.const 16) (i32.const 10)"
_OUT = "(i32.const 0) (i32.const 4)"
_ADD = "(i32.const 0) (i32.const 16) (i32.const 10) (i32.const 42) (i32.const 5)"
# Hostcall: types of its parameters, and its arguments. Addresses are those of the data segment above.
HOSTCALLS = {
    "proxy_log": ("i32 i32 i32", f"(i32.const 0) {_KEY}"),
    "proxy_get_header_map_value": ("i32 i32 i32 i32 i32", f"(i32.const 0) {_KEY} {_OUT}"),
    "proxy_get_header_map_pairs": ("i32 i32 i32", f"(i32.const 0) {_OUT}"),
    "proxy_replace_header_map_value": ("i32 i32 i32 i32 i32", _ADD),
    "proxy_get_property": ("i32 i32 i32 i32", f"(i32.const 27) (i32.const 14) {_OUT}"),
    "proxy_get_current_time_nanoseconds": ("i32", "(i32.const 8)"),
    "proxy_get_shared_data": ("i32 i32 i32 i32 i32", f"{_KEY} {_OUT} (i32.const 8)"),
    "proxy_set_shared_data": ("i32 i32 i32 i32 i32", f"{_KEY} (i32.const 42) (i32.const 5) (i32.const 0)"),
    "proxy_increment_metric": ("i32 i64", "(i32.load (i32.const 12)) (i64.const 1)"),
}  # fmt: skip
_DEFINE = '(import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))'
_DEFINE_ONCE = "(drop (call $define (i32.const 0) (i32.const 42) (i32.const 5) (i32.const 12)))"


def no_callbacks(folder: Path) -> Path:
    """A plugin that exports no callback of HTTP."""
    return _write(folder, "no_callbacks", _MODULE.format(imports="", functions=""))


def repeated(folder: Path, hostcall: str, count: int) -> Path:
    """A plugin that makes this hostcall ``count`` times in each request."""
    types, arguments = HOSTCALLS[hostcall]
    imports = f'(import "env" "{hostcall}" (func $hostcall (param {types}) (result i32)))'
    counts = hostcall == "proxy_increment_metric"
    loop = _LOOP.format(once=_DEFINE_ONCE if counts else "", count=count, arguments=arguments)
    text = _MODULE.format(imports=imports + (_DEFINE if counts else ""), functions=loop)
    return _write(folder, f"{hostcall}_{count}", text)


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.wasm"
    path.write_bytes(wasmtime.wat2wasm(text))
    return path
