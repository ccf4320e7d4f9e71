"""The engine's proof, at first use, that the C API is the one it knows: every kind of access once, on a tiny module.

The module, as text:

    (module
      (import "e" "five" (func $five (param i32 i32 i32 i32 i32) (result i32)))
      (import "e" "wide" (func $wide (param i64 i32) (result i64)))
      (import "e" "again" (func $again (param i32)))
      (memory (export "memory") 1)
      (func (export "five") (param i32 i32 i32) (result i32)
        (call $five (local.get 0) (local.get 1) (local.get 2) (i32.const -4) (i32.const 5)))
      (func (export "wide") (param i64 i32) (result i64) (call $wide (local.get 0) (local.get 1)))
      (func (export "again") (param i32) (result i32)
        (if (local.get 0) (then (call $again (i32.sub (local.get 0) (i32.const 1)))))
        (local.get 0))
      (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
      (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
      (func (export "trap") unreachable))
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

from asgi_wasm.engines.base import HostFunction, Instance
from asgi_wasm.errors import EngineError, MemoryAccessError, TrapError

# `tests/engines/test_wasmtime.py` checks that this is the text above.
CODE = base64.b64decode(
    b"AGFzbQEAAAABIwZgBX9/f39/AX9gAn5/AX5gAX8AYAN/f38Bf2ABfwF/YAAAAh0DAWUEZml2ZQAAAWUEd2lkZQABAWUFYWdhaW4A"
    b"AgMHBgMBBAQEBQUDAQABBzUHBm1lbW9yeQIABGZpdmUAAwR3aWRlAAQFYWdhaW4ABQRncm93AAYEbG9hZAAHBHRyYXAACAo9Bg4A"
    b"IAAgASACQXxBBRAACwgAIAAgARABCxAAIAAEQCAAQQFrEAILIAALBgAgAEAACwcAIAAoAgALAwAACwAbBG5hbWUBFAMABGZpdmUB"
    b"BHdpZGUCBWFnYWlu"
)

PAGE = 65536

Instantiate = Callable[[Mapping[tuple[str, str], HostFunction], int], Instance]


class ProofFailedError(EngineError):
    """Raised when the C API answers differently from what `asgi_wasm.engines.wasmtime.raw` expects."""


class _Oops(BaseException):
    pass


def prove(instantiate: Instantiate) -> None:
    """Raise `ProofFailedError`, or whatever went wrong, unless ``instantiate`` makes working instances."""
    seen: list[tuple[int, ...]] = []
    instance = instantiate(_functions(seen, lambda: instance), 4 * PAGE)
    try:
        _prove_calls(instance, seen)
        _prove_memory(instance)
        _prove_traps(instance)
    finally:
        instance.close()


def _functions(seen: list[tuple[int, ...]], instance: Callable[[], Instance]) -> dict[tuple[str, str], HostFunction]:
    def five(*arguments: int) -> int:
        seen.append(arguments)
        if arguments[0] == 99:
            raise _Oops
        return -3

    def wide(value: int, narrow: int) -> int:
        seen.append((value, narrow))
        return -value

    def again(value: int) -> None:
        _expect("a nested call", _call(instance(), "again", value), value)

    return {("e", "five"): five, ("e", "wide"): wide, ("e", "again"): again}


def _prove_calls(instance: Instance, seen: list[tuple[int, ...]]) -> None:
    _expect("a call's result", _call(instance, "five", 1, -2, 0xFFFFFFFD), 0xFFFFFFFD)
    _expect("a 64-bit result", _call(instance, "wide", 1 << 40, -1), (1 << 64) - (1 << 40))
    _expect("host functions' arguments", seen, [(1, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFC, 5), (1 << 40, 0xFFFFFFFF)])
    _expect("a call that is entered again", _call(instance, "again", 4), 4)


def _prove_memory(instance: Instance) -> None:
    memory = instance.memory
    memory.write(8, b"\1\2\3\4")
    _expect("what the guest reads", _call(instance, "load", 8), 0x04030201)
    _expect("growing", _call(instance, "grow", 2), 1)
    memory.write_u32(3 * PAGE - 4, 0xFFFFFFFE)
    _expect("what is read after growing", memory.read(3 * PAGE - 4, 4), b"\xfe\xff\xff\xff")
    _expect("what was written before growing", memory.read(8, 4), b"\1\2\3\4")
    _expect("growing beyond the limit", _call(instance, "grow", 2), 0xFFFFFFFF)
    try:
        memory.read(3 * PAGE - 3, 4)
    except MemoryAccessError:
        return
    raise ProofFailedError("a read outside memory succeeds")


def _prove_traps(instance: Instance) -> None:
    for name, arguments, cause in (("five", (99, 0, 0), _Oops), ("trap", (), type(None))):
        try:
            _call(instance, name, *arguments)
        except TrapError as error:
            _expect("a trap's cause", type(error.__cause__), cause)
        else:
            raise ProofFailedError(f"{name!r} does not trap")


def _call(instance: Instance, name: str, *arguments: int) -> int | None:
    function = instance.function(name)
    if function is None:
        raise ProofFailedError(f"the export {name!r} is not found")
    return function(*arguments)


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ProofFailedError(f"{what}: {found!r} instead of {expected!r}")
