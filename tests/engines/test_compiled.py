"""Compiled code, on every engine: written out, read again, made on one thread and used on another."""

from __future__ import annotations

import threading

import pytest

from asgi_wasm.engines.base import Engine, Module
from asgi_wasm.errors import InvalidModuleError
from tests.engines.wat import LIMIT, MEMORY, get, start, wasm


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
