"""Calls into a guest and out of it, over wasmtime's C API.

How values travel: a call's arguments lie in slots of 16 bytes, the results replace them. An i32 is the low four bytes
of its slot, in wasm's byte order; the rest of the slot is garbage on the way out and ignored on the way in. Floats are
passed as their bits. The functions are called with ready-made arguments of ctypes and have no ``argtypes``, since
converting five arguments costs as much as the call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, NamedTuple, NoReturn

import wasmtime
from wasmtime import _ffi as ffi

from asgi_wasm.engines import base
from asgi_wasm.engines.traps import Failure, callback_headroom
from asgi_wasm.engines.wasmtime.interruption import NativeEntry, codes_in
from asgi_wasm.engines.wasmtime.reports import report, trap_at_limit, trap_from_report
from asgi_wasm.errors import EngineError

SLOT = 16
WIDE = frozenset((base.I64, base.F64))

# wasm_trap_t *callback(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *slots, size_t count): the count is
# left out, as it is known and each argument costs 0.05 µs; a C function may be called with more than it takes.
_Callback32 = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_void_p, POINTER(c_uint32))
_Callback64 = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_void_p, POINTER(c_uint64))


class Context(c_void_p):
    """The store's context pointer. It owns the store and whatever must live as long as the store.

    Who calls keeps it meanwhile, so that it outlives the call, even if the instance is closed in the middle of one.
    """

    store: wasmtime.Store
    callbacks: list[Any]
    entry: NativeEntry


class RawFailure(Failure):
    """A `Failure` with one trap in stock, to be returned by the host function that raised."""

    __slots__ = ("_new_trap", "trap")

    TEXT = b"a host function raised"

    def __init__(self, new_trap: Any) -> None:
        super().__init__()
        self._new_trap = new_trap
        self.trap = self.new_trap()

    def new_trap(self) -> int:
        """A trap, by its address, that whoever returns it to wasmtime gives away."""
        return self._new_trap(self.TEXT, c_size_t(len(self.TEXT)))  # type: ignore[no-any-return]

    def restock(self) -> None:
        """Replace a trap that was given away. To be done before the next host function runs."""
        if not self.trap:
            # As in `new_trap`: at the limit of recursion, a call of that would be one too many.
            self.trap = self._new_trap(self.TEXT, c_size_t(len(self.TEXT)))

    def __del__(self) -> None:
        trap, self.trap = self.trap, 0
        if trap:
            ffi.wasm_trap_delete(ctypes.cast(trap, POINTER(ffi.wasm_trap_t)))


def store_context(context: Context) -> Any:
    """The context as the bindings' functions want it."""
    return context.store._context()


def store_is_open(store: wasmtime.Store | None) -> bool:
    """Whether the store has not been freed. A garbage collection frees it before the last of its users is gone."""
    if store is None:
        return False
    try:
        store.ptr()
    except ValueError:
        return False
    return True


def bind_host_function(imported: base.Import, function: base.HostFunction, failure: RawFailure) -> Any:
    """The C function that calls ``function``. It must be kept alive as long as the store.

    No exception may leave a callback: ctypes would print it and return an uninitialised pointer as the trap. What can
    be raised outside ``try`` is a RecursionError: `callback_headroom` sees to it that there is none on the way in, and
    on the way out nothing is called, since the trap is in stock.
    """
    assert imported.type is not None
    params, results = imported.type.params, imported.type.results
    source = f"{imported.module}.{imported.name}"
    if not params or WIDE.intersection(params + results):
        return _bind_any_host_function(imported.type, source, function, failure)
    window = slice(0, 4 * len(params), 4)

    def answer(env: int, caller: int, slots: Any) -> int:
        try:
            slots[0] = function(*slots[window])
        except BaseException as error:
            failure.error, failure.source = error, source
            trap, failure.trap = failure.trap, 0
            return trap or failure.new_trap()
        return 0

    def run(env: int, caller: int, slots: Any) -> int:
        try:
            function(*slots[window])
        except BaseException as error:
            failure.error, failure.source = error, source
            trap, failure.trap = failure.trap, 0
            return trap or failure.new_trap()
        return 0

    return _Callback32(answer if results else run)


def _bind_any_host_function(type_: base.FuncType, source: str, function: base.HostFunction, failure: RawFailure) -> Any:
    """`bind_host_function` for any type: with 64-bit values each value needs its own mask.

    Without parameters, slots are not looked at: there may be none, and an empty slice of a pointer reads one.
    """
    masks = [_mask(each) for each in type_.params]
    result_mask = _mask(type_.results[0]) if type_.results else None
    window = slice(0, 2 * len(masks), 2)

    def callback(env: int, caller: int, slots: Any) -> int:
        try:
            values = slots[window] if masks else ()
            result = function(*[value & mask for value, mask in zip(values, masks)])  # noqa: B905  # equal
            if result_mask is not None:
                slots[0] = result & result_mask  # type: ignore[operator]  # None is a bug, told by the TypeError
        except BaseException as error:
            failure.error, failure.source = error, source
            trap, failure.trap = failure.trap, 0
            return trap or failure.new_trap()
        return 0

    return _Callback64(callback)


def _mask(type_: str) -> int:
    return 0xFFFFFFFFFFFFFFFF if type_ in WIDE else 0xFFFFFFFF


class _Crossing(NamedTuple):
    """All that a call of one exported function needs, in the form that the C API takes.

    One set of slots serves re-entrant calls too: wasmtime reads the arguments before the guest runs, and writes the
    results after it has run, with no Python in between.
    """

    invoke: Any
    store: Context
    slots: Any
    # Of `invoke`: store, function, slots, their count, trap.
    arguments: tuple[Any, Any, Any, Any, Any]
    trap: c_void_p
    # Its first item is the result.
    result: Any
    fail: Callable[[int | None], NoReturn]


Bound = tuple[base.GuestFunction, Callable[[], None]]


def bind_guest_function(invoke: Any, context: Context, extern: Any, type_: base.FuncType, failure: RawFailure) -> Bound:
    """The callable for an exported function, and what makes it unusable."""
    arity = len(type_.params)
    count = max(arity, len(type_.results))
    slots = (c_uint64 * (2 * max(count, 1)))()
    trap = c_void_p()

    def fail(error: int | None) -> NoReturn:
        text = report(error, trap)  # first of all: it needs no more levels than `callback_headroom` has seen
        kept = failure.take()
        failure.restock()
        try:
            raised = trap_from_report(text, kept, failure.source)
        except RecursionError:
            raised = trap_at_limit(kept)
        try:
            raise raised
        finally:
            # Its traceback has this frame, which would keep it, and with it the VM, until the garbage collector comes.
            del raised

    # What `from_param` makes is converted already, unlike a ctypes object; a count is as wide as a pointer.
    store_at, size = c_void_p.from_param(context.value), c_void_p.from_param(count)
    arguments = store_at, byref(extern.of.func), byref(slots), size, byref(trap)
    crossing = _Crossing(invoke, context, slots, arguments, trap, _result(slots, type_), fail)
    return _bind_few(crossing, arity) if arity <= 2 else _bind_many(crossing, arity)


# What is written out below for each number of arguments would be one call more for each call, if it were a function.
# Local names, since each attribute or global costs as much as a slot. Few are at most two parameters.


def _bind_few(crossing: _Crossing, arity: int) -> Bound:
    run, store, slots, (store_at, function, slots_at, size, trap_at), trap, result, fail = crossing

    def call0() -> int | None:
        callback_headroom()
        _kept, error = store, run(store_at, function, slots_at, size, trap_at)
        if error or trap:
            fail(error)
        return result[0]  # type: ignore[no-any-return]

    def call1(a: int) -> int | None:
        slots[0] = a
        callback_headroom()
        _kept, error = store, run(store_at, function, slots_at, size, trap_at)
        if error or trap:
            fail(error)
        return result[0]  # type: ignore[no-any-return]

    def call2(a: int, b: int) -> int | None:
        slots[0] = a
        slots[2] = b
        callback_headroom()
        _kept, error = store, run(store_at, function, slots_at, size, trap_at)
        if error or trap:
            fail(error)
        return result[0]  # type: ignore[no-any-return]

    def close() -> None:
        nonlocal run, store
        run, store = _closed, None  # type: ignore[assignment]  # what the context keeps alive goes with it

    return (call0, call1, call2)[arity], close


def _bind_many(crossing: _Crossing, arity: int) -> Bound:
    run, store, slots, (store_at, function, slots_at, size, trap_at), trap, result, fail = crossing

    def call3(a: int, b: int, c: int) -> int | None:
        slots[0] = a
        slots[2] = b
        slots[4] = c
        callback_headroom()
        _kept, error = store, run(store_at, function, slots_at, size, trap_at)
        if error or trap:
            fail(error)
        return result[0]  # type: ignore[no-any-return]

    def call4(a: int, b: int, c: int, d: int) -> int | None:
        slots[0] = a
        slots[2] = b
        slots[4] = c
        slots[6] = d
        callback_headroom()
        _kept, error = store, run(store_at, function, slots_at, size, trap_at)
        if error or trap:
            fail(error)
        return result[0]  # type: ignore[no-any-return]

    def call_any(*arguments: int) -> int | None:
        if len(arguments) != arity:
            raise TypeError(f"the guest's function takes {arity} arguments, not {len(arguments)}")
        for index, argument in enumerate(arguments):
            slots[2 * index] = argument
        callback_headroom()
        _kept, error = store, run(store_at, function, slots_at, size, trap_at)
        if error or trap:
            fail(error)
        return result[0]  # type: ignore[no-any-return]

    def close() -> None:
        nonlocal run, store
        run, store = _closed, None  # type: ignore[assignment]  # likewise

    return call3 if arity == 3 else call4 if arity == 4 else call_any, close


# What enters a guest, its start section aside.
ENTERING = codes_in(_bind_few) | codes_in(_bind_many)


def _result(slots: Any, type_: base.FuncType) -> Any:
    """What holds a call's result as its first item: a view of the first slot, masked by its width."""
    if not type_.results:
        return (None,)
    return slots if type_.results[0] in WIDE else (c_uint32 * 4).from_buffer(slots)


def _closed(*_arguments: object) -> NoReturn:
    raise EngineError("the instance is closed")
