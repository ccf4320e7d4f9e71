"""Guests that are written as WebAssembly text, and started with functions of a test."""

from __future__ import annotations

from collections.abc import Mapping

import wasmtime

from asgi_wasm.engines.base import Engine, GuestFunction, HostFunction, Instance

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


class Stop(BaseException):
    """As wide as an exception can be."""


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
