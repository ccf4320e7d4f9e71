"""What goes into a guest and comes out of it, on every engine: numbers of each type, any number of parameters."""

from __future__ import annotations

import struct

import pytest

from asgi_wasm.engines.base import Engine
from asgi_wasm.errors import TrapError
from tests.engines.wat import get, start


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
