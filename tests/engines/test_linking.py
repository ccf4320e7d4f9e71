"""What a module imports, and its start section, on every engine."""

from __future__ import annotations

import pytest

from asgi_wasm.engines.base import Engine
from asgi_wasm.errors import LinkError, TrapError
from tests.engines.wat import get, start


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
