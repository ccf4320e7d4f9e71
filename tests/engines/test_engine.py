"""What every engine must do, over guests written as WAT."""

from __future__ import annotations

import gc
import struct
import sys
import threading
import weakref
from collections.abc import Mapping
from typing import Any

import pytest
import wasmtime

from asgi_wasm.engines.base import Engine, Export, FuncType, GuestFunction, HostFunction, Import, Instance, Module
from asgi_wasm.engines.wasmtime import WasmtimeEngine
from asgi_wasm.errors import EngineError, InvalidModuleError, LinkError, MemoryAccessError, TrapError

PAGE = 65536
LIMIT = 16 * PAGE
MARKER = b"\xa5"

Functions = Mapping[tuple[str, str], HostFunction]


def wasm(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def start(engine: Engine, text: str, functions: Functions | None = None, limit: int = LIMIT) -> Instance:
    return engine.compile(wasm(text)).instantiate(functions or {}, memory_limit=limit)


def get(instance: Instance, name: str) -> GuestFunction:
    function = instance.function(name)
    assert function is not None
    return function


# Values


@pytest.mark.parametrize("given", [0, 1, -1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, -0x80000000])
def test_i32_goes_in_with_any_sign_and_comes_back_without(engine: Engine, given: int) -> None:
    seen: list[int] = []

    def host(value: int) -> int:
        seen.append(value)
        return given

    text = """(module (import "e" "f" (func $f (param i32) (result i32)))
      (func (export "f") (param i32) (result i32) (call $f (local.get 0))))"""
    instance = start(engine, text, {("e", "f"): host})
    assert get(instance, "f")(given) == given & 0xFFFFFFFF
    assert seen == [given & 0xFFFFFFFF]


@pytest.mark.parametrize("given", [0, -1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -(1 << 63)])
def test_i64_goes_in_with_any_sign_and_comes_back_without(engine: Engine, given: int) -> None:
    seen: list[tuple[int, ...]] = []

    def host(*values: int) -> int:
        seen.append(values)
        return given

    text = """(module (import "e" "f" (func $f (param i32 i64 i32) (result i64)))
      (func (export "f") (param i64) (result i64) (call $f (i32.const -1) (local.get 0) (i32.const -2))))"""
    instance = start(engine, text, {("e", "f"): host})
    mask = (1 << 64) - 1
    assert get(instance, "f")(given) == given & mask
    assert seen == [(0xFFFFFFFF, given & mask, 0xFFFFFFFE)]


def test_a_wide_function_with_a_narrow_result_and_with_none(engine: Engine) -> None:
    seen: list[int] = []
    text = """(module (import "e" "narrow" (func $narrow (param i64) (result i32)))
      (import "e" "none" (func $none (param i64)))
      (func (export "f") (result i32) (call $none (i64.const -1)) (call $narrow (i64.const 7))))"""
    instance = start(engine, text, {("e", "narrow"): lambda value: -value, ("e", "none"): seen.append})
    assert get(instance, "f")() == 0xFFFFFFF9
    assert seen == [(1 << 64) - 1]


def test_floats_travel_as_their_bits(engine: Engine) -> None:
    seen: list[tuple[int, int]] = []
    text = """(module (import "e" "f" (func $f (param f32 f64)))
      (func (export "f") (param f32 f64) (result f64) (call $f (local.get 0) (local.get 1))
        (f64.add (local.get 1) (f64.const 1)))
      (func (export "g") (result f32) (f32.const 2.5)))"""
    instance = start(engine, text, {("e", "f"): lambda a, b: seen.append((a, b))})
    single = struct.unpack("<I", struct.pack("<f", 1.5))[0]
    double = struct.unpack("<Q", struct.pack("<d", -2.25))[0]
    assert get(instance, "f")(single, double) == struct.unpack("<Q", struct.pack("<d", -1.25))[0]
    assert get(instance, "g")() == struct.unpack("<I", struct.pack("<f", 2.5))[0]
    assert seen == [(single, double)]


@pytest.mark.parametrize("arity", range(9))
def test_any_number_of_parameters_in_both_directions(engine: Engine, arity: int) -> None:
    seen: list[tuple[int, ...]] = []
    params = "(param" + " i32" * arity + ")"
    gets = " ".join(f"(local.get {index})" for index in range(arity))
    text = f"""(module (import "e" "f" (func $f {params} (result i32)))
      (import "e" "v" (func $v {params}))
      (func (export "f") {params} (result i32) (call $v {gets}) (call $f {gets}))
      (func (export "v") {params}))"""

    def host(*values: int) -> int:
        seen.append(values)
        return len(values)

    instance = start(engine, text, {("e", "f"): host, ("e", "v"): host})
    arguments = tuple(range(10, 10 + arity))
    assert get(instance, "f")(*arguments) == arity
    assert seen == [arguments, arguments]
    assert get(instance, "v")(*arguments) is None


@pytest.mark.parametrize("arity", range(6))
def test_a_wrong_number_of_arguments_is_refused_before_the_guest_runs(engine: Engine, arity: int) -> None:
    instance = start(engine, f'(module (func (export "f") (param{" i32" * arity}) unreachable))')
    with pytest.raises((TypeError, ValueError, TrapError)) as caught:
        get(instance, "f")(*range(arity + 1))
    assert "unreachable" not in str(caught.value)


def test_the_first_of_several_results_is_returned(engine: Engine) -> None:
    instance = start(engine, '(module (func (export "f") (result i32 i32) (i32.const -1) (i32.const 2)))')
    assert get(instance, "f")() == 0xFFFFFFFF


# What a module says of itself


def test_imports_and_exports_are_listed_in_order_with_their_types(engine: Engine) -> None:
    module = engine.compile(
        wasm("""(module (import "b" "two" (func (param i32 i64))) (import "a" "one" (func (result f64)))
          (import "b" "two" (func (param f32))) (import "m" "m" (memory 1)) (import "g" "g" (global i32))
          (import "t" "t" (table 1 funcref))
          (func (export "f") (param i32) (result i64) (i64.const 0)) (global (export "g") i32 (i32.const 1))
          (table (export "t") 1 funcref) (export "memory" (memory 0)))""")
    )
    assert list(module.imports) == [
        Import("b", "two", "func", FuncType(("i32", "i64"))),
        Import("a", "one", "func", FuncType((), ("f64",))),
        Import("b", "two", "func", FuncType(("f32",))),
        Import("m", "m", "memory"),
        Import("g", "g", "global"),
        Import("t", "t", "table"),
    ]
    assert dict(module.exports) == {
        "f": Export("f", "func", FuncType(("i32",), ("i64",))),
        "g": Export("g", "global"),
        "t": Export("t", "table"),
        "memory": Export("memory", "memory"),
    }


def test_what_is_no_exported_function_is_none(engine: Engine) -> None:
    instance = start(engine, '(module (memory (export "memory") 1) (func $hidden))')
    assert instance.function("hidden") is None
    assert instance.function("memory") is None
    assert instance.function("nonsense\u2713") is None


# Modules that are none


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"", "empty"),
        (b"\0", "truncated"),
        (b"\0asm\1", "truncated"),
        (b"\0asm\1\0\0\0\1\x20\1", "refuses it"),
        (b"\0asm\2\0\0\0", "version 2"),
        (b"\x7fELF\2\1\1\0", "no WebAssembly file"),
        (b"(module)", "WebAssembly text"),
        (b"(component)", "no WebAssembly file"),
        (b"\0asm\x0d\0\1\0", "component"),
    ],
)
def test_bytes_that_are_no_core_module_are_refused_in_one_sentence(engine: Engine, code: bytes, words: str) -> None:
    with pytest.raises(InvalidModuleError, match=words) as caught:
        engine.compile(code)
    assert "\n" not in str(caught.value)


def test_no_prefix_of_a_module_crashes(engine: Engine) -> None:
    whole = wasm("""(module (import "e" "f" (func $f (param i32) (result i32))) (memory (export "memory") 1)
      (func (export "f") (result i32) (call $f (i32.const 3))) (data (i32.const 0) "hello"))""")
    for size in range(len(whole)):
        try:
            engine.compile(whole[:size])
        except InvalidModuleError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    "text",
    [
        '(module (func (export "f") (param v128)))',
        '(module (func (export "f") (result v128) (v128.const i64x2 0 0)))',
        '(module (import "e" "f" (func (param externref))))',
        '(module (import "t" "t" (table 1 2 funcref)) (import "m" "m" (memory 1 2)) (import "g" "g" (global i64))'
        ' (import "e" "f" (func (param v128))))',
        '(module (type $t (func)) (func (export "f") (param (ref $t))))',
        '(module (func (export "f") (param i31ref)))',
    ],
)
def test_a_signature_with_other_than_numbers_is_refused(engine: Engine, text: str) -> None:
    with pytest.raises(InvalidModuleError):
        engine.compile(wasm(text))


def test_vectors_inside_a_module_are_no_matter(engine: Engine) -> None:
    text = """(module (func $f (param v128) (result i32) (i32x4.extract_lane 3 (local.get 0)))
      (func (export "f") (result i32) (call $f (v128.const i32x4 1 2 3 4))))"""
    assert get(start(engine, text), "f")() == 4


# Linking


def test_a_missing_import_is_named(engine: Engine) -> None:
    with pytest.raises(LinkError, match=r"env\.proxy_log \(i32\) -> \(i32\)"):
        start(engine, '(module (import "env" "proxy_log" (func (param i32) (result i32))))')


@pytest.mark.parametrize(
    ("item", "kind"), [("memory 1", "memory"), ("global i32", "global"), ("table 1 funcref", "table")]
)
def test_an_import_that_is_no_function_is_named_with_its_kind(engine: Engine, item: str, kind: str) -> None:
    with pytest.raises(LinkError, match=rf"env\.it is a {kind}"):
        start(engine, f'(module (import "env" "it" ({item})))', {("env", "it"): lambda: None})


def test_an_import_with_several_results_is_refused(engine: Engine) -> None:
    with pytest.raises(LinkError, match="several results"):
        start(engine, '(module (import "e" "f" (func (result i32 i32))))', {("e", "f"): lambda: 1})


def test_the_same_function_may_be_imported_twice_and_others_between(engine: Engine) -> None:
    text = """(module (import "e" "one" (func $a (result i32))) (import "e" "two" (func $b (result i32)))
      (import "e" "one" (func $c (result i32)))
      (func (export "f") (result i32) (i32.add (i32.mul (call $a) (i32.const 100))
        (i32.add (i32.mul (call $b) (i32.const 10)) (call $c)))))"""
    instance = start(engine, text, {("e", "one"): lambda: 1, ("e", "two"): lambda: 2})
    assert get(instance, "f")() == 121


def test_unused_host_functions_are_ignored(engine: Engine) -> None:
    assert start(engine, "(module)", {("e", "f"): lambda: 1}).function("f") is None


def test_the_start_section_runs_and_may_call_the_host(engine: Engine) -> None:
    seen: list[int] = []
    text = '(module (import "e" "f" (func $f (param i32))) (func $s (call $f (i32.const 5))) (start $s))'
    start(engine, text, {("e", "f"): seen.append})
    assert seen == [5]


def test_a_trap_in_the_start_section(engine: Engine) -> None:
    with pytest.raises(TrapError, match="unreachable"):
        start(engine, "(module (func $s unreachable) (start $s))")


def test_a_host_exception_in_the_start_section(engine: Engine) -> None:
    text = '(module (import "e" "f" (func $f)) (start $f))'
    with pytest.raises(TrapError, match=r"e\.f raised ZeroDivisionError") as caught:
        start(engine, text, {("e", "f"): lambda: 1 // 0})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# Traps and host exceptions


def test_a_trap_names_its_reason_and_the_guests_functions_in_one_line(engine: Engine) -> None:
    text = """(module (func $inner unreachable) (func $outer (call $inner) (call $inner))
      (func (export "f") (call $outer) (call $outer)))"""
    with pytest.raises(TrapError, match=r"unreachable.*inner < outer") as caught:
        get(start(engine, text), "f")()
    assert caught.value.__cause__ is None
    assert "\n" not in str(caught.value)


class Stop(BaseException):
    """As wide as an exception can be."""


@pytest.mark.parametrize("error", [ValueError("bad\nline"), Stop("stop"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("type_", ["", "(param i64)", "(result i32)", "(result i64)"])
def test_a_host_exception_is_the_traps_cause(engine: Engine, error: BaseException, type_: str) -> None:
    def host(*_: int) -> int:
        raise error

    value = "(i64.const 0)" if "param" in type_ else ""
    drop = "drop" if "result" in type_ else ""
    text = f'(module (import "e" "f" (func $f {type_})) (func (export "f") {value} (call $f) {drop}))'
    with pytest.raises(TrapError, match=rf"e\.f raised {type(error).__name__}") as caught:
        get(start(engine, text, {("e", "f"): host}), "f")()
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("type_", ["i32", "i64", "f32", "f64"])
def test_a_host_function_without_its_result_is_a_trap(engine: Engine, type_: str) -> None:
    text = f'(module (import "e" "f" (func $f (result {type_}))) (func (export "f") (drop (call $f))))'
    with pytest.raises(TrapError) as caught:
        get(start(engine, text, {("e", "f"): lambda: None}), "f")()
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_host_function_of_other_arity_is_a_trap(engine: Engine) -> None:
    text = '(module (import "e" "f" (func $f (param i32))) (func (export "f") (call $f (i32.const 1))))'
    with pytest.raises(TrapError) as caught:
        get(start(engine, text, {("e", "f"): lambda: None}), "f")()
    assert isinstance(caught.value.__cause__, TypeError)


def test_an_exception_that_is_handled_in_time_leaves_no_trace(engine: Engine) -> None:
    text = """(module (import "e" "inner" (func $inner)) (import "e" "outer" (func $outer))
      (func (export "inner") (call $inner)) (func (export "outer") (call $outer))
      (func (export "trap") unreachable))"""
    caught: list[TrapError] = []

    def inner() -> None:
        raise ValueError("inner")

    def outer() -> None:
        try:
            get(instance, "inner")()
        except TrapError as error:
            caught.append(error)

    instance = start(engine, text, {("e", "inner"): inner, ("e", "outer"): outer})
    assert get(instance, "outer")() is None
    assert isinstance(caught[0].__cause__, ValueError)
    with pytest.raises(TrapError, match="unreachable") as later:
        get(instance, "trap")()
    assert later.value.__cause__ is None


def test_nested_traps_are_chained(engine: Engine) -> None:
    text = """(module (import "e" "f" (func $f)) (func (export "inner") unreachable)
      (func (export "outer") (call $f)))"""
    instance = start(engine, text, {("e", "f"): lambda: get(instance, "inner")()})
    with pytest.raises(TrapError, match=r"e\.f raised TrapError") as caught:
        get(instance, "outer")()
    assert isinstance(caught.value.__cause__, TrapError)
    assert caught.value.__cause__.__cause__ is None


def test_host_exceptions_of_two_threads_are_not_mixed_up(engine: Engine) -> None:
    text = '(module (import "e" "f" (func $f (param i32))) (func (export "f") (param i32) (call $f (local.get 0))))'
    wrong: list[Any] = []

    def work(number: int) -> None:
        def host(value: int) -> None:
            raise ValueError(number, value)

        function = get(start(engine, text, {("e", "f"): host}), "f")
        for turn in range(100):
            try:
                function(turn)
            except TrapError as error:
                cause = error.__cause__
                if not isinstance(cause, ValueError) or cause.args != (number, turn):
                    wrong.append(cause)
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong


# Re-entrancy


def test_the_same_export_may_be_entered_again_from_a_host_function(engine: Engine) -> None:
    text = """(module (import "e" "fact" (func $fact (param i32 i32) (result i32)))
      (func (export "fact") (param i32 i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0)) (then (local.get 1))
          (else (i32.mul (local.get 0)
            (call $fact (i32.sub (local.get 0) (i32.const 1)) (local.get 1)))))))"""

    def host(n: int, one: int) -> int | None:
        return fact(n, one)

    fact = get(start(engine, text, {("e", "fact"): host}), "fact")
    assert fact(10, 1) == 3628800


def uses_classes(engine: Engine) -> bool:
    return isinstance(engine, WasmtimeEngine) and not engine.uses_raw_api


@pytest.mark.parametrize("burnt", [0, 12])
def test_endless_re_entrance_is_a_trap(engine: Engine, burnt: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either wasm's stack ends first or, with more frames between the guest's, Python's."""
    leaked: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda each: leaked.append(f"{each.err_msg} {each.object!r}"))

    def burn(left: int) -> None:
        if left:
            burn(left - 1)
        else:
            enter(0)

    text = '(module (import "e" "f" (func $f (param i32))) (func (export "f") (param i32) (call $f (local.get 0))))'
    instance = start(engine, text, {("e", "f"): lambda _: burn(burnt)})
    enter = get(instance, "f")
    for offset in range(burnt + 4):  # moves the place in the cycle where the limit strikes
        with pytest.raises(TrapError, match="raised"):
            burn(offset)
    if uses_classes(engine):  # which may fail to free a trap at the limit; but no exception left a callback
        leaked = [each for each in leaked if "Managed.__del__" not in each]
    assert leaked == []


def test_endless_recursion_in_the_guest_is_a_trap(engine: Engine) -> None:
    with pytest.raises(TrapError):
        get(start(engine, '(module (func $f (export "f") (call $f) (call $f)))'), "f")()


# Memory


MEMORY = """(module (import "e" "fill" (func $fill (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "allocate") (param i32) (result i32)
    (i32.mul (memory.grow (local.get 0)) (i32.const 65536)))
  (func (export "fill") (param i32) (result i32) (i32.load8_u (call $fill (local.get 0)))))"""


def memory_guest(engine: Engine, limit: int = LIMIT) -> Instance:
    def fill(pages: int) -> int:
        address = get(instance, "allocate")(pages)
        assert address is not None
        instance.memory.write(address, b"\x07" * (pages * PAGE))
        return address + pages * PAGE - 1

    instance = start(engine, MEMORY, {("e", "fill"): fill}, limit)
    return instance


def test_what_is_written_is_read_by_guest_and_host(engine: Engine) -> None:
    instance = memory_guest(engine)
    memory = instance.memory
    memory.write(0, MARKER * PAGE)
    memory.write(100, b"hello")
    assert memory.read(99, 7) == MARKER + b"hello" + MARKER
    assert get(instance, "load")(100) == int.from_bytes(b"hell", "little")
    memory.write_u32(101, -2)
    assert memory.read(100, 6) == b"h\xfe\xff\xff\xff" + MARKER
    assert isinstance(memory.read(0, 3), bytes)


@pytest.mark.parametrize("data", [bytearray(b"abc"), memoryview(b"abc")])
def test_any_bytes_may_be_written(engine: Engine, data: Any) -> None:
    memory = memory_guest(engine).memory
    memory.write(1, data)
    assert memory.read(0, 5) == b"\0abc\0"


def test_memory_that_the_guest_grew_is_reached_through_the_same_object(engine: Engine) -> None:
    instance = memory_guest(engine)
    memory = instance.memory
    memory.write(7, b"before")
    with pytest.raises(MemoryAccessError):
        memory.read(2 * PAGE, 1)
    assert get(instance, "grow")(2) == 1
    memory.write(3 * PAGE - 4, b"tail")
    assert memory.size == 3 * PAGE
    assert memory.read(3 * PAGE - 4, 4) == b"tail"
    assert get(instance, "load")(3 * PAGE - 4) == int.from_bytes(b"tail", "little")
    assert memory.read(7, 6) == b"before"
    assert memory.read(0, 3 * PAGE)[-4:] == b"tail"


def test_memory_that_grows_in_a_nested_call_is_written_at_once(engine: Engine) -> None:
    instance = memory_guest(engine)
    for _ in range(3):
        assert get(instance, "fill")(2) == 7
    assert instance.memory.size == 7 * PAGE


@pytest.mark.parametrize(
    ("address", "size"),
    [(PAGE, 1), (PAGE - 1, 2), (0, PAGE + 1), (0xFFFFFFFF, 1), (0xFFFFFFFF, 0xFFFFFFFF), (PAGE + 1, 0)],
)
def test_a_range_that_leaves_memory_is_refused_and_nothing_is_written(engine: Engine, address: int, size: int) -> None:
    memory = memory_guest(engine).memory
    memory.write(0, MARKER * PAGE)
    with pytest.raises(MemoryAccessError):
        memory.read(address, size)
    if size <= 2 * PAGE:
        with pytest.raises(MemoryAccessError):
            memory.write(address, bytes(size))
    assert memory.read(0, PAGE) == MARKER * PAGE


@pytest.mark.parametrize("address", [PAGE - 3, PAGE, 0xFFFFFFFF])
def test_a_u32_that_leaves_memory_is_refused(engine: Engine, address: int) -> None:
    memory = memory_guest(engine).memory
    with pytest.raises(MemoryAccessError):
        memory.write_u32(address, 1)
    assert memory.read(PAGE - 4, 4) == bytes(4)


def test_the_last_byte_and_an_empty_range_at_the_end_are_inside(engine: Engine) -> None:
    memory = memory_guest(engine).memory
    memory.write(PAGE - 1, b"x")
    memory.write(PAGE, b"")
    assert memory.read(PAGE - 1, 1) == b"x"
    assert memory.read(PAGE, 0) == b""
    assert memory.read(0, 0) == b""


def test_a_module_without_exported_memory(engine: Engine) -> None:
    instance = start(engine, '(module (memory 1) (func (export "f")))')
    with pytest.raises(LinkError, match="memory"):
        _ = instance.memory
    assert get(instance, "f")() is None


def test_an_export_named_memory_that_is_none(engine: Engine) -> None:
    with pytest.raises(LinkError, match="memory"):
        _ = start(engine, '(module (func (export "memory")))').memory


def test_memory_of_no_pages(engine: Engine) -> None:
    text = """(module (memory (export "memory") 0)
      (func (export "grow") (result i32) (memory.grow (i32.const 1))))"""
    instance = start(engine, text)
    memory = instance.memory
    assert memory.size == 0
    assert memory.read(0, 0) == b""
    with pytest.raises(MemoryAccessError):
        memory.write(0, b"x")
    get(instance, "grow")()
    memory.write(0, b"x")
    assert memory.read(0, 2) == b"x\0"


def test_memory_grows_up_to_its_limit_and_no_further(engine: Engine) -> None:
    if not engine.limits_memory:
        pytest.skip("the engine has no memory limit")
    instance = memory_guest(engine, limit=3 * PAGE)
    assert get(instance, "grow")(3) == 0xFFFFFFFF
    assert get(instance, "grow")(2) == 1
    assert get(instance, "grow")(1) == 0xFFFFFFFF
    assert instance.memory.size == 3 * PAGE


def test_a_module_that_starts_above_the_limit_is_not_linked(engine: Engine) -> None:
    if not engine.limits_memory:
        pytest.skip("the engine has no memory limit")
    with pytest.raises(LinkError, match="limit") as caught:
        start(engine, '(module (memory (export "memory") 3))', limit=2 * PAGE)
    assert "\n" not in str(caught.value)


# Instances and compiled code


def test_instances_share_code_and_nothing_else(engine: Engine) -> None:
    module = engine.compile(
        wasm("""(module (import "e" "f" (func $f (result i32))) (memory (export "memory") 1)
          (global $g (mut i32) (i32.const 0))
          (func (export "f") (result i32) (global.set $g (i32.add (global.get $g) (i32.const 1)))
            (i32.add (global.get $g) (call $f))))""")
    )
    instances = [
        module.instantiate({("e", "f"): lambda number=number: 100 * number}, memory_limit=LIMIT) for number in range(20)
    ]
    for number, instance in enumerate(instances):
        instance.memory.write_u32(0, number)
    for turn in (1, 2):
        assert [get(each, "f")() for each in instances] == [100 * number + turn for number in range(20)]
    assert [each.memory.read(0, 1)[0] for each in instances] == list(range(20))


def test_close_is_idempotent_and_breaks_calls_instead_of_the_process(engine: Engine) -> None:
    instance = memory_guest(engine)
    instance.close()
    instance.close()
    with pytest.raises(EngineError):
        instance.function("grow")


def test_close_in_the_middle_of_a_call_is_survived(engine: Engine) -> None:
    text = """(module (import "e" "f" (func $f (result i32))) (memory (export "memory") 1)
      (func (export "f") (result i32) (i32.add (call $f) (i32.load (i32.const 0)))))"""

    def host() -> int:
        instance.close()
        gc.collect()
        return 1

    instance = start(engine, text, {("e", "f"): host})
    instance.memory.write_u32(0, 41)
    assert get(instance, "f")() == 42


def test_a_closed_instance_lets_go_of_its_host(engine: Engine) -> None:
    class Host:
        def __init__(self) -> None:
            text = '(module (import "e" "f" (func $f (param i32))) (func (export "f") (call $f (i32.const 1))))'
            self.instance = start(engine, text, {("e", "f"): self.take})
            self.function = get(self.instance, "f")

        def take(self, value: int) -> None:
            if value > 1:
                raise ValueError(value)

    host = Host()
    host.function()
    reference = weakref.ref(host)
    host.instance.close()
    del host
    gc.collect()
    assert reference() is None


def test_a_host_exception_is_not_kept(engine: Engine) -> None:
    text = '(module (import "e" "f" (func $f)) (func (export "f") (call $f)))'

    def host() -> None:
        raise Stop

    function = get(start(engine, text, {("e", "f"): host}), "f")
    with pytest.raises(TrapError) as caught:
        function()
    reference = weakref.ref(caught.value.__cause__)
    del caught
    gc.collect()
    assert reference() is None


def test_compiled_code_survives_serialization(engine: Engine) -> None:
    original = engine.compile(wasm(MEMORY))
    module = engine.deserialize(original.serialize())
    assert list(module.imports) == list(original.imports)
    assert dict(module.exports) == dict(original.exports)
    instance = module.instantiate({("e", "fill"): lambda value: value}, memory_limit=LIMIT)
    instance.memory.write(3, b"\x09")
    assert get(instance, "fill")(3) == 9


@pytest.mark.parametrize("compiled", [b"", b"nonsense", b"\0asm\1\0\0\0"])
def test_other_bytes_are_not_taken_for_compiled_code(engine: Engine, compiled: bytes) -> None:
    with pytest.raises(InvalidModuleError) as caught:
        engine.deserialize(compiled)
    assert "\n" not in str(caught.value)


def test_compiled_code_that_was_cut_short_is_refused(engine: Engine) -> None:
    compiled = engine.compile(wasm(MEMORY)).serialize()
    with pytest.raises(InvalidModuleError):
        engine.deserialize(compiled[: len(compiled) // 2])


def test_modules_are_compiled_on_any_thread(engine: Engine) -> None:
    results: list[int | None] = []

    def work() -> None:
        results.append(get(start(engine, '(module (func (export "f") (result i32) (i32.const 3)))'), "f")())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert results == [3] * 4


def test_the_fingerprint_is_a_line_that_names_the_engine(engine: Engine) -> None:
    assert engine.fingerprint.startswith(engine.name)
    assert "\n" not in engine.fingerprint


def test_compiled_on_one_thread_and_used_on_another(engine: Engine) -> None:
    made: list[Module] = []
    text = '(module (memory (export "memory") 1) (func (export "f") (result i32) (i32.const 7)))'
    thread = threading.Thread(target=lambda: made.append(engine.compile(wasm(text))))
    thread.start()
    thread.join()
    assert set(made[0].exports) == {"memory", "f"}
    instance = made[0].instantiate({}, memory_limit=LIMIT)
    assert get(instance, "f")() == 7
    assert engine.deserialize(made[0].serialize()).exports == made[0].exports
