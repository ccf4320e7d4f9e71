"""What is special to wasmtime: the proof of the C API, and the fallback when it fails."""

from __future__ import annotations

import ctypes
import logging

import pytest
import wasmtime
from wasmtime import _ffi as ffi

from asgi_wasm.engines.base import GuestFunction, Instance
from asgi_wasm.engines.traps import MOST_FRAMES, trap_error
from asgi_wasm.engines.wasmtime import WasmtimeEngine, calls, memory, proof, public, raw
from asgi_wasm.engines.wasmtime.reports import trap_from_report
from asgi_wasm.engines.wasmtime.space import SpaceLimits
from asgi_wasm.errors import EngineError, InvalidModuleError, MemoryAccessError, TrapError
from tests.engines.wat import get, wasm

GUEST = wasm("""(module (memory (export "memory") 1)
      (func (export "f") (param i32) (result i32) (local.get 0)))""")


def start(engine: WasmtimeEngine) -> Instance:
    return engine.compile(GUEST).instantiate({}, memory_limit=1 << 20)


def test_the_raw_api_proves_itself_with_this_wasmtime(caplog: pytest.LogCaptureFixture) -> None:
    assert WasmtimeEngine().uses_raw_api
    assert caplog.records == []


def test_the_public_api_passes_the_same_proof() -> None:
    engine = WasmtimeEngine(raw=False)
    module = engine.compile(proof.CODE)
    proof.prove(lambda functions, limit: module.instantiate(functions, memory_limit=limit))
    assert not engine.uses_raw_api


@pytest.mark.parametrize(
    "fault", [TypeError("exceptions must derive from BaseException"), public._HostFunctionFailed()]
)
def test_what_another_thread_left_in_wasmtimes_global_variable_is_a_trap_all_the_same(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_it() -> None:
        raise fault

    code = wasm("""(module (import "e" "f" (func $f)) (func (export "host") (call $f))
          (func (export "trap") unreachable))""")
    starting = wasm("(module (func $f unreachable) (start $f))")

    def host() -> None:
        raise ValueError("mine")

    engine = WasmtimeEngine(raw=False)
    instance = engine.compile(code).instantiate({("e", "f"): host}, memory_limit=1 << 20)
    monkeypatch.setattr(wasmtime._func, "LAST_EXCEPTION", None)  # restored, since nobody empties it here
    monkeypatch.setattr(wasmtime._func, "maybe_raise_last_exn", raise_it)
    functions = {name: get(instance, name) for name in ("host", "trap")}
    with pytest.raises(TrapError, match=r"e\.f raised ValueError: mine") as caught:
        functions["host"]()
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(TrapError, match="another thread"):
        functions["trap"]()
    with pytest.raises(TrapError, match="another thread"):
        engine.compile(starting).instantiate({}, memory_limit=1 << 20)


def test_the_proofs_module_is_the_text_above_it() -> None:
    assert proof.__doc__ is not None
    text = proof.__doc__[proof.__doc__.index("(module") :]
    assert wasm(text) == proof.CODE


@pytest.mark.parametrize("broken", ["values", "arity", "symbol", "memory", "results"])
def test_a_failed_proof_falls_back_with_one_warning(
    broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if broken == "values":
        monkeypatch.setattr(ffi, "wasmtime_val_raw_t", ctypes.c_uint64)
    elif broken == "arity":
        monkeypatch.setitem(raw.ARITIES, "wasmtime_func_call_unchecked", 6)
    elif broken == "symbol":
        monkeypatch.setitem(raw.ARITIES, "wasmtime_no_such_function", 1)
    elif broken == "memory":
        monkeypatch.setattr(memory.RawMemory, "read", lambda self, address, size: bytes(size))
    else:
        monkeypatch.setattr(calls, "_result", lambda slots, type_: (0,))
    engine = WasmtimeEngine()
    with caplog.at_level(logging.WARNING):
        function = start(engine).function("f")
        start(engine)
    assert function is not None
    assert function(-1) == 0xFFFFFFFF
    assert not engine.uses_raw_api
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "public API" in caplog.text


def test_a_closed_raw_instance_answers_with_errors_not_crashes() -> None:
    instance = start(WasmtimeEngine())
    function, guest_memory = instance.function("f"), instance.memory
    instance.close()
    assert function is not None
    with pytest.raises(EngineError, match="closed"):
        function(1)
    with pytest.raises(MemoryAccessError):
        guest_memory.read(0, 1)
    with pytest.raises(MemoryAccessError):
        guest_memory.write(0, b"x")
    assert guest_memory.size == 0


def test_long_backtraces_and_names_are_cut() -> None:
    message = str(trap_error("wasm trap: x", ["a" * 100, *"bcdefghij"], None, ""))
    assert message == f"wasm trap: x (in {'a' * 80}... < b < c < d < e < f < g < h < ...)"


# Seconds, of which it takes none: to search for the end of each beginning in such a name would take an hour.
@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", ["std::sys::", "runtime.panic", "[01234567", "std::panicking", "\n"])
def test_a_name_of_megabytes_takes_no_time(part: str) -> None:
    """The event loop tells of a trap, and other requests wait for it meanwhile."""
    name = part * 500_000
    assert len(str(trap_error("wasm trap: x", [name] * MOST_FRAMES, None, ""))) < 1000
    trap = trap_from_report(f"error\n    0:   0x4f - a!f\n    1:   0x4f - {name}\nwasm trap: x", None, "")
    assert str(trap) == "wasm trap: x (in f)"


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        (
            [
                "__rustc[b1da763420d39311]::rust_panic",
                "std[d730ca44a121e5f3]::panicking::panic_with_hook",
                "core[4d105328dfd0a45]::option::expect_failed",
                "<waf[55c21b9741cb5ff9]::Stream as proxy_wasm[4599e523a957e313]::traits::HttpContext>::on_http",
                "core::panicking::kept::h0123456789abcdef",
            ],
            "<waf::Stream as proxy_wasm::traits::HttpContext>::on_http < core::panicking::kept",
        ),
        (["runtime.abort", "runtime.gopanic", "runtime.sigpanic", "main.deep", "runtime.x"], "main.deep < runtime.x"),
        (["waf::deep"] * 20, "waf::deep (20 times or more)"),
        (["runtime.abort"], "runtime.abort"),
    ],
)
def test_a_backtrace_begins_with_the_plugins_own_line(frames: list[str], told: str) -> None:
    assert str(trap_error("wasm trap: x", frames, None, "")) == f"wasm trap: x (in {told})"


class Bad:
    """An instance that differs from a good one in one function or in memory."""

    def __init__(self, instance: Instance, changed: str) -> None:
        self.instance = instance
        self.changed = changed
        self.memory = instance.memory
        self.close = instance.close
        self.is_open = True

    def function(self, name: str) -> GuestFunction | None:
        if name != self.changed:
            return self.instance.function(name)
        return None if name == "load" else lambda *_: 1


@pytest.mark.parametrize(
    ("changed", "words"), [("load", "not found"), ("trap", "does not trap"), ("wide", "1 instead of")]
)
def test_the_proof_notices(changed: str, words: str) -> None:
    module = WasmtimeEngine().compile(proof.CODE)
    with pytest.raises(proof.ProofFailedError, match=words):
        proof.prove(lambda functions, limit: Bad(module.instantiate(functions, memory_limit=limit), changed))


def test_the_proof_notices_reads_outside_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.RawMemory, "_grown_to", lambda self, address, size: self._refresh())
    module = WasmtimeEngine(raw=False).compile(proof.CODE)
    linker = raw.RawLinker(module.engine.engine, memory_may_move=True)
    with pytest.raises(proof.ProofFailedError, match="outside memory"):
        proof.prove(lambda functions, limit: module.instantiate_by(linker, functions, SpaceLimits(limit)))


def test_items_that_are_neither_of_the_four_kinds_are_listed_too() -> None:
    code = wasm('(module (import "e" "t" (tag)) (export "t" (tag 0)))')
    try:
        module = WasmtimeEngine().compile(code)
    except InvalidModuleError as error:
        pytest.skip(str(error))
    assert module.imports[0].type is None
    assert module.exports["t"].type is None
