"""Instances, on every engine: they share code alone, and what is closed lets go of its host."""

from __future__ import annotations

import gc
import weakref

import pytest

from asgi_wasm.engines.base import Engine
from asgi_wasm.errors import EngineError, TrapError
from tests.engines.wat import LIMIT, Stop, get, memory_guest, start, wasm


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
