"""Instances over wasmtime's public Python classes: slow, but they change with the wheel.

The classes keep the last exception of any host function in one global variable, for every thread. So no exception is
left to them: it is kept beside the instance, and what they raise only says that the call has ended.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import wasmtime

from asgi_wasm.engines import base
from asgi_wasm.engines.traps import CALL_DEPTH, Failure, headroom, outside_memory
from asgi_wasm.engines.wasmtime.calls import store_is_open
from asgi_wasm.engines.wasmtime.interruption import INTERRUPTED, Guard, NativeEntry, codes_in, guard
from asgi_wasm.engines.wasmtime.reports import trap_from_report
from asgi_wasm.engines.wasmtime.space import SpaceLimits
from asgi_wasm.errors import EngineError, LinkError

if TYPE_CHECKING:
    from asgi_wasm.engines.wasmtime.compiled import Compiled

# The engine's values are non-negative ints, wasmtime's classes take signed ints and floats.
_FORMATS = {base.I32: ("<I", "<i"), base.I64: ("<Q", "<q"), base.F32: ("<I", "<f"), base.F64: ("<Q", "<d")}
_MASKS = {base.I32: 0xFFFFFFFF, base.I64: 0xFFFFFFFFFFFFFFFF, base.F32: 0xFFFFFFFF, base.F64: 0xFFFFFFFFFFFFFFFF}


class _HostFunctionFailed(Exception):  # noqa: N818  # a signal to the guest's frames, never seen outside
    pass


class PublicLinker:
    """Makes instances of wasmtime's public classes."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        self._engine = engine

    def instantiate(
        self,
        module: Compiled,
        functions: Sequence[base.HostFunction],
        limits: SpaceLimits,
        time_limit: base.TimeLimit | None,
    ) -> PublicInstance:
        """Instantiate with one function per import, in order."""
        store = wasmtime.Store(self._engine)
        limits.apply(store)
        failure = Failure()
        externs = []
        bound: list[list[base.HostFunction]] = []
        made = guard(store, time_limit, failure, module.engine, _ENTERING, NativeEntry())
        # wasmtime's list of imports owns the function types, hence is kept until the functions are made.
        types = module.c_imports
        for index, (imported, function) in enumerate(zip(module.imports, functions, strict=True)):
            type_: Any = types[index].type
            bound.append([function])
            externs.append(wasmtime.Func(store, type_, _bind_host_function(imported, bound[-1], failure)))
        headroom(CALL_DEPTH)
        try:
            instance = wasmtime.Instance(store, module.module, externs)
        except _ENDINGS as error:
            raised, text = failure.take(), str(error)
            if raised is None and isinstance(error, wasmtime.WasmtimeError) and INTERRUPTED not in text:
                raise LinkError(f"wasmtime cannot instantiate the module: {' '.join(text.split())}") from None
            raise trap_from_report(_report(error), raised, failure.source) from raised
        return PublicInstance(store, instance, module, bound, failure, made)


class PublicInstance:
    """`base.Instance` over the wheel's classes."""

    def __init__(
        self,
        store: wasmtime.Store,
        instance: wasmtime.Instance,
        module: Compiled,
        bound: list[list[base.HostFunction]],
        failure: Failure,
        made: Guard | None,
    ) -> None:
        self._guard = made
        self._store: wasmtime.Store | None = store
        self._exports = instance.exports(store)
        self._module = module
        self._bound = bound
        self._failure = failure

    @property
    def memory(self) -> PublicMemory:
        """The exported memory, a new object each time. Raises `LinkError` when there is none."""
        memory = self._exports.get("memory")
        if not isinstance(memory, wasmtime.Memory):
            raise LinkError('the module exports no memory named "memory"')
        return PublicMemory(self.store, memory)

    def function(self, name: str) -> base.GuestFunction | None:
        """`base.Instance.function`. One with several results returns the first."""
        export = self._module.exports.get(name)
        if export is None or export.type is None:
            return None
        function: Any = self._exports[name]
        call = _bind_guest_function(self.store, function, export.type, self._failure)
        if self._guard is not None:
            self._guard.name(call, name)
        return call

    @property
    def store(self) -> wasmtime.Store:
        """Wasmtime's store, until the instance is closed."""
        if self._store is None:
            raise EngineError("the instance is closed")
        return self._store

    @property
    def is_open(self) -> bool:
        """False after `close`, and once Python's collector has freed the store."""
        return store_is_open(self._store)

    def close(self) -> None:
        """`base.Instance.close`. The store is freed with the last function that was fetched."""
        # wasmtime keeps callbacks in a global variable, so a cycle of host and instance ends here.
        for function in self._bound:
            function.clear()
        if self._guard is not None:
            self._guard.forget()
        self._store = None


class PublicMemory:
    """`base.Memory` over the wheel's classes, which ask for address and size at each access."""

    def __init__(self, store: wasmtime.Store, memory: wasmtime.Memory) -> None:
        self._store = store
        self._memory = memory

    @property
    def size(self) -> int:
        """In bytes, as wasmtime says now."""
        return self._memory.data_len(self._store)

    def read(self, address: int, size: int) -> bytes:
        """Checked here, since the wheel's class takes a range that is too long for a shorter one."""
        self._check(address, size)
        return bytes(self._memory.read(self._store, address, address + size)) if size else b""

    def write(self, address: int, data: bytes) -> None:
        """Checked here, as in `read`: the wheel's class takes a range that is too long for a shorter one."""
        self._check(address, len(data))
        if data:
            self._memory.write(self._store, bytearray(data), address)

    def write_u32(self, address: int, value: int) -> None:
        """Four bytes, little endian, checked as in `write`."""
        self.write(address, (value & 0xFFFFFFFF).to_bytes(4, "little"))

    def _check(self, address: int, size: int) -> None:
        present = self.size
        if address + size > present:
            raise outside_memory(address, size, present)


# `TypeError`, since wasmtime raises its global variable, which another thread has emptied since it was looked at.
_ENDINGS = (wasmtime.Trap, wasmtime.WasmtimeError, _HostFunctionFailed, TypeError)
_LOST = "a trap, whose report wasmtime gave away for what ended the call of another thread"


def _report(error: BaseException) -> str:
    """What wasmtime says of the end, unless another thread's has taken its place."""
    return str(error) if isinstance(error, (wasmtime.Trap, wasmtime.WasmtimeError)) else _LOST


def _bind_host_function(imported: base.Import, bound: list[base.HostFunction], failure: Failure) -> Callable[..., Any]:
    """What calls the function in ``bound``, until that is empty."""
    assert imported.type is not None
    params, results = imported.type.params, imported.type.results

    def callback(*arguments: Any) -> Any:
        try:
            (function,) = bound
            result = function(*[_from_wasmtime(value, type_) for value, type_ in zip(arguments, params, strict=True)])
            return _to_wasmtime(result, results[0]) if results else None
        except BaseException as error:
            failure.error = error
            failure.source = f"{imported.module}.{imported.name}"
        raise _HostFunctionFailed

    return callback


def _bind_guest_function(
    store: wasmtime.Store, function: wasmtime.Func, type_: base.FuncType, failure: Failure
) -> base.GuestFunction:
    def call(*arguments: int) -> int | None:
        values = [_to_wasmtime(value, each) for value, each in zip(arguments, type_.params, strict=True)]
        headroom(CALL_DEPTH)
        try:
            result = function(store, *values)
        except _ENDINGS as error:
            raised = failure.take()
            raise trap_from_report(_report(error), raised, failure.source) from raised
        if not type_.results:
            return None
        return _from_wasmtime(result if len(type_.results) == 1 else result[0], type_.results[0])

    return call


def _from_wasmtime(value: float, type_: str) -> int:
    unsigned, own = _FORMATS[type_]
    return int(struct.unpack(unsigned, struct.pack(own, value))[0])


def _to_wasmtime(value: int | None, type_: str) -> float:
    if value is None:
        raise TypeError(f"None where the guest expects an {type_}")
    unsigned, own = _FORMATS[type_]
    number: float = struct.unpack(own, struct.pack(unsigned, value & _MASKS[type_]))[0]
    return number


# What enters a guest, the start section aside.
_ENTERING = codes_in(_bind_guest_function)
