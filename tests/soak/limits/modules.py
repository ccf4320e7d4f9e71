"""Limits that the engine keeps, and VMs that fail and are replaced: plugins in WebAssembly text."""

from __future__ import annotations

from asgi_wasm import WasmMiddleware
from tests.engines.wat import wasm
from tests.soak.limits.case import Case, Seen, status_of

# Instructions of one request.
TIMES = 10
PLUGIN = """(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 8))
  {more} (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (local $i i32)
  {body} (i32.const 0)))"""
FILLS = """(drop (memory.grow (i32.const 256)))
  (memory.fill (i32.const 65536) (i32.const 1) (i32.const 16777216)) unreachable"""
AGAIN = {"failure_policy": "fail_reload", "reload_config": {"backoff": {"base_interval": 0.001}}}


def refused(name: str, limits: dict[str, int], more: str, grows: str) -> Case:
    """An instruction that gives -1; else the plugin traps."""
    body = (
        f"(loop $l (if (i32.ne {grows} (i32.const -1)) (then unreachable))"
        f" (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {TIMES}))))"
    )

    async def ask(app: WasmMiddleware, seen: Seen) -> None:
        assert await status_of(app) == 200
        seen.times += TIMES

    return Case(name, limits, wasm(PLUGIN.format(more=more, body=body)), ask)


def failing(name: str, limits: dict[str, int], more: str, body: str, share: float = 1.0) -> Case:
    """Whose VM fails at each request, and is replaced as soon as may be."""

    async def ask(app: WasmMiddleware, seen: Seen) -> None:
        assert await status_of(app) == 503
        seen.times = app.status().plugins[0].failures

    code = wasm(PLUGIN.format(more=more, body=body))
    return Case(name, limits, code, ask, share=share, entry=AGAIN)


CASES = [
    refused("memory", {"memory": 1 << 20}, "", "(memory.grow (i32.const 100))"),
    refused(
        "table_elements",
        {"table_elements": 100},
        "(table $t 4 funcref)",
        "(table.grow $t (ref.null func) (i32.const 100))",
    ),
    failing("a trap", {}, "", "unreachable"),
    failing("a trap, with 16 MiB of memory written", {}, "", FILLS, 0.1),
    failing("stack", {"stack": 65536}, "(func $f (call $f))", "(call $f)"),
    failing("callback_ms", {"callback_ms": 1}, "", "(loop $l (br $l))"),
]
