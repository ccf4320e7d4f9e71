"""Traps, exceptions of the host's functions and guests that are entered again, on every engine."""

from __future__ import annotations

import gc
import platform
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_wasm.engines.base import Engine
from asgi_wasm.engines.wasmtime import WasmtimeEngine
from asgi_wasm.errors import TrapError
from tests.engines.wat import Stop, get, start


def test_a_trap_names_its_reason_and_the_guests_functions_in_one_line(engine: Engine) -> None:
    text = """(module (func $inner unreachable) (func $outer (call $inner) (call $inner))
      (func (export "f") (call $outer) (call $outer)))"""
    with pytest.raises(TrapError, match=r"unreachable.*inner < outer") as caught:
        get(start(engine, text), "f")()
    assert caught.value.__cause__ is None
    assert "\n" not in str(caught.value)


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


@pytest.fixture
def no_garbage() -> Iterator[None]:
    """What other tests have left is not freed in the middle of this one, at the limit of recursion."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage")
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


@pytest.mark.skipif(
    platform.python_implementation() == "PyPy", reason="at its limit of recursion PyPy itself fails to chain exceptions"
)
@pytest.mark.usefixtures("no_garbage")
@pytest.mark.parametrize("type_", ["i32", "i64"])
@pytest.mark.parametrize("burnt", range(8))
def test_a_guest_that_is_entered_at_the_limit_of_recursion(
    engine: Engine, type_: str, burnt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again and again, one level higher each time: what a host function raises there is an exception, and no more."""
    unraisable: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda each: unraisable.append(f"{each.err_msg} {each.object!r}"))

    def burn(left: int) -> int:
        return burn(left - 1) if left else 0

    text = f"""(module (import "e" "f" (func $f (param {type_}) (result {type_})))
      (func (export "f") (param {type_}) (drop (call $f (local.get 0)))))"""
    enter = get(start(engine, text, {("e", "f"): lambda _: burn(burnt)}), "f")
    raised: list[type[Exception]] = []

    def deep() -> None:
        try:
            deep()
        except RecursionError:
            if len(raised) < 40:
                try:
                    enter(1)
                except (TrapError, RecursionError) as error:
                    raised.append(type(error))
                    raise RecursionError from None

    deep()
    enter(1)
    # The wheel's classes may fail to free what is theirs.
    assert raised and not [each for each in unraisable if not (uses_classes(engine) and ".__del__" in each)]


def test_endless_recursion_in_the_guest_is_a_trap(engine: Engine) -> None:
    with pytest.raises(TrapError):
        get(start(engine, '(module (func $f (export "f") (call $f) (call $f)))'), "f")()
