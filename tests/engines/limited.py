"""Guests whose entries have a time limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asgi_wasm.engines.base import Engine, HostFunction, Instance, TimeLimit
from tests.engines.wat import get, wasm

# Seconds. Much shorter than in real life, and longer than a busy machine takes for a short call.
LIMIT = 0.2

TEXT = """(module (import "e" "host" (func $host (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "short") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
  (func (export "malloc") (param i32) (result i32) (i32.const 8))
  (func (export "loop") (param i32 i32 i32) (loop $l (br $l)))
  (func (export "wide") (param i32 i32 i32 i32 i32) (loop $l (br $l)))
  (func (export "_start") (loop $l (br $l)))
  (func $deep (export "deep") (param i32) (call $deep (local.get 0)) (call $deep (local.get 0)))
  (func (export "calls") (param i32) (loop $l (drop (call $host (local.get 0))) (br $l)))
  (func (export "once") (param i32) (result i32) (call $host (local.get 0))))"""


class Slow:
    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def __call__(self, name: str, seconds: float) -> None:
        self.told.append((name, seconds))


def start(
    engine: Engine, host: HostFunction = lambda each: each, limit: float = LIMIT, slow: float = 0, on_slow: Any = None
) -> Instance:
    functions: Mapping[tuple[str, str], HostFunction] = {("e", "host"): host}
    time_limit = TimeLimit(limit, slow, on_slow or Slow(), f"and the limit is {limit}")
    module = engine.compile(wasm(TEXT))
    return module.instantiate(functions, memory_limit=1 << 20, time_limit=time_limit)


def call(instance: Instance, name: str, *arguments: int) -> int | None:
    return get(instance, name)(*arguments)
