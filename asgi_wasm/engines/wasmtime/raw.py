"""Instances over wasmtime's C API, by ctypes."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from ctypes import POINTER, byref, c_void_p
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import wasmtime
from wasmtime import _ffi as ffi

from asgi_wasm.engines import base
from asgi_wasm.engines.companion import NativeFunction, Told
from asgi_wasm.engines.traps import CALL_DEPTH, headroom
from asgi_wasm.engines.wasmtime.calls import (
    ENTERING,
    SLOT,
    Context,
    RawFailure,
    bind_guest_function,
    bind_host_function,
    store_context,
    store_is_open,
)
from asgi_wasm.engines.wasmtime.interruption import INTERRUPTED, Guard, NativeEntry, guard
from asgi_wasm.engines.wasmtime.memory import MovingMemory, RawMemory
from asgi_wasm.engines.wasmtime.reports import report, trap_from_report
from asgi_wasm.engines.wasmtime.space import SpaceLimits
from asgi_wasm.errors import EngineError, LinkError

if TYPE_CHECKING:
    from asgi_wasm.engines.wasmtime.compiled import Compiled

# What `_bindings` must declare for the functions that are called below without ctypes' checks.
ARITIES = {
    "wasmtime_func_call_unchecked": 5,
    "wasmtime_func_new_unchecked": 6,
    "wasmtime_instance_new": 6,
    "wasmtime_instance_export_get": 5,
    "wasmtime_memory_data": 2,
    "wasmtime_memory_data_size": 2,
    "wasmtime_trap_new": 2,
}


class RawLinker:
    """Makes raw instances. Raises when the C API is not the one described above."""

    def __init__(self, engine: wasmtime.Engine, *, memory_may_move: bool) -> None:
        if sys.byteorder != "little" or ctypes.sizeof(ffi.wasmtime_val_raw_t) != SLOT:
            raise EngineError("values are not slots of 16 bytes, low bytes first")
        for name, arity in ARITIES.items():
            if len(getattr(ffi.dll, name).argtypes) != arity:
                raise EngineError(f"{name} does not take {arity} arguments")
        self._engine = engine
        self._memory_type = MovingMemory if memory_may_move else RawMemory
        # `dll[name]` is a new function object each time: these settings are ours alone.
        self._new_function = ffi.dll["wasmtime_func_new_unchecked"]
        self._new_function.restype = None
        self._new_trap = ffi.dll["wasmtime_trap_new"]
        self._new_trap.restype = c_void_p
        self.invoke = ffi.dll["wasmtime_func_call_unchecked"]
        self.invoke.restype = c_void_p

    def instantiate(
        self,
        module: Compiled,
        functions: Sequence[base.HostFunction],
        limits: SpaceLimits,
        time_limit: base.TimeLimit | None,
    ) -> RawInstance:
        """Instantiate with one function per import, in order."""
        opened = self.open(module, limits, time_limit)
        externs = (ffi.wasmtime_extern_t * len(functions))()
        # wasmtime's list of imports owns the C function types, hence is kept until the functions are made.
        c_imports = module.c_imports
        for index, (imported, function) in enumerate(zip(module.imports, functions, strict=True)):
            self.define(opened, imported, c_imports[index], function, externs[index])
        return RawInstance(self.invoke, opened, module, externs)

    def open(
        self,
        module: Compiled,
        limits: SpaceLimits,
        time_limit: base.TimeLimit | None,
        *,
        companion: bool = False,
    ) -> Opened:
        """A new store. ``limits`` hold for all that is in it, that of time for each entry into it."""
        store = wasmtime.Store(self._engine)
        limits.apply(store, companion=companion)
        context = Context(ctypes.cast(store._context(), c_void_p).value)
        context.store = store
        context.callbacks = []
        context.entry = NativeEntry()
        failure = RawFailure(self._new_trap)
        made = guard(store, time_limit, failure, module.engine, ENTERING, context.entry)
        return Opened(context, failure, self._memory_type, made)

    def define(
        self,
        opened: Opened,
        imported: base.Import,
        c_import: wasmtime.ImportType,
        function: base.HostFunction | NativeFunction,
        extern: Any,
    ) -> None:
        """Make the host function that ``extern`` is to hold."""
        env = None
        callback: Any
        if isinstance(function, NativeFunction):
            callback, env = c_void_p(function.address), c_void_p(function.env)
        else:
            callback = bind_host_function(imported, function, opened.failure)
        opened.context.callbacks.append((callback, function))
        extern.kind = ffi.WASMTIME_EXTERN_FUNC  # a copy of its value
        self._new_function(opened.context, c_import.type.ptr(), callback, env, None, byref(extern.of.func))


@dataclass(frozen=True)
class Opened:
    """A store, and what its instances share."""

    context: Context
    failure: RawFailure
    memory_type: type[RawMemory]
    guard: Guard | None


class RawInstance:
    """`base.Instance` over wasmtime's C API."""

    def __init__(
        self,
        invoke: Any,
        opened: Opened,
        module: Compiled,
        externs: ctypes.Array[Any],
    ) -> None:
        self._invoke = invoke
        self._context: Context | None = opened.context
        self._module = module
        self._failure = opened.failure
        self._guard = opened.guard
        self._instance = ffi.wasmtime_instance_t()
        self._memory_type = opened.memory_type
        self._memory: RawMemory | None = None
        self._closers: list[Callable[[], None]] = []
        trap = c_void_p()
        headroom(CALL_DEPTH)
        error = ffi.wasmtime_instance_new(
            store_context(opened.context),
            module.module.ptr(),
            externs,
            len(externs),
            byref(self._instance),
            ctypes.cast(byref(trap), POINTER(POINTER(ffi.wasm_trap_t))),
        )
        if error or trap.value:
            self._refuse(ctypes.cast(error, c_void_p).value, trap)

    @property
    def memory(self) -> RawMemory:
        """The exported memory, one object. Raises `LinkError` when there is none."""
        if self._memory is None:
            extern = self.export("memory")
            if extern is None or extern.kind != ffi.WASMTIME_EXTERN_MEMORY.value:
                raise LinkError('the module exports no memory named "memory"')
            self._memory = self._memory_type(self._open_context(), extern)
        return self._memory

    def function(self, name: str, told_as: Told = "") -> base.GuestFunction | None:
        """`base.Instance.function`. One with several results returns the first.

        ``told_as`` is its name where its time is told.
        """
        export = self._module.exports.get(name)
        if export is None or export.type is None:
            return None
        extern = self.export(name)
        call, close = bind_guest_function(self._invoke, self._open_context(), extern, export.type, self._failure)
        self._closers.append(close)
        if self._guard is not None:
            self._guard.name(call, told_as or name)
        return call

    @property
    def is_open(self) -> bool:
        """False after `close`, and once Python's collector has freed the store."""
        return self._context is not None and store_is_open(self._context.store)

    def close(self) -> None:
        """`base.Instance.close`. During a call the store lives until the call has ended."""
        for close in self._closers:
            close()
        self._closers.clear()
        if self._guard is not None:
            self._guard.forget()
        if self._memory is not None:
            self._memory.close()
        self._context = None

    def _open_context(self) -> Context:
        if self._context is None:
            raise EngineError("the instance is closed")
        return self._context

    def export(self, name: str) -> Any:
        """What wasmtime knows the export by; None when there is none."""
        extern = ffi.wasmtime_extern_t()
        encoded = name.encode()
        context = store_context(self._open_context())
        found = ffi.wasmtime_instance_export_get(
            context, byref(self._instance), ctypes.create_string_buffer(encoded), len(encoded), byref(extern)
        )
        return extern if found else None

    def _refuse(self, error: int | None, trap: c_void_p) -> NoReturn:
        trapped = trap.value is not None
        text = report(error, trap)
        kept = self._failure.take()
        self.close()
        if trapped or kept is not None or INTERRUPTED in text:
            raise trap_from_report(text, kept, self._failure.source)
        # An unfit host has been found by now, so what is left is what the limits forbid.
        raise LinkError(f"wasmtime cannot instantiate the module: {' '.join(text.split())}")
