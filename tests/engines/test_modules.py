"""What every engine says of a module, and that it refuses what is none."""

from __future__ import annotations

import pytest

from asgi_wasm.engines.base import Engine, Export, FuncType, Import
from asgi_wasm.errors import InvalidModuleError
from tests.engines.wat import get, start, wasm


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
