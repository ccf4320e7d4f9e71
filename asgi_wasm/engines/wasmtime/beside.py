"""A guest with the host's kernel beside it, in one store (`Companion`)."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import c_char, c_uint32, c_void_p
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

from wasmtime import _ffi as ffi

from asgi_wasm.engines import base
from asgi_wasm.engines.companion import Companion, NativeFunction, Told
from asgi_wasm.engines.linking import find_functions
from asgi_wasm.engines.traps import callback_headroom
from asgi_wasm.engines.wasmtime.calls import RawFailure
from asgi_wasm.engines.wasmtime.raw import Opened, RawInstance, RawLinker
from asgi_wasm.engines.wasmtime.reports import report, trap_at_limit, trap_from_report
from asgi_wasm.engines.wasmtime.space import OF_COMPANION, SpaceLimits
from asgi_wasm.errors import EngineError, LinkError

if TYPE_CHECKING:
    from asgi_wasm.engines.wasmtime.compiled import Compiled

Functions = Mapping[tuple[str, str], "base.HostFunction | NativeFunction"]


class RawNative:
    """`Native`: addresses of wasmtime's call, of the store and of the kernel's functions."""

    headroom = staticmethod(callback_headroom)

    def __init__(self, linker: RawLinker, opened: Opened, kernel: RawInstance, guest: int) -> None:
        """``guest`` is where the plugin's memory begins."""
        self.guest = guest
        self.call = ctypes.cast(linker.invoke, c_void_p).value or 0
        self.store = opened.context.value or 0
        self.entry = ctypes.addressof(opened.context.entry)
        self._context = opened.context
        self._guard = opened.guard
        # Whoever has it outlives the store: it may not be a method of this, which keeps that.
        self.fail = partial(_fail, opened.failure)
        self._kernel = kernel
        self._externs: list[Any] = []

    def function(self, name: str, told_as: Told = "") -> int:
        """Its address, whose holder is kept; the time limit learns which callback it stands for."""
        extern = self._kernel.export(name)
        self._externs.append(extern)
        address = ctypes.addressof(extern.of.func)
        if self._guard is not None:
            self._guard.name_native(address, told_as or name)
        return address


def _fail(failure: RawFailure, error: int, trap: int) -> NoReturn:
    """`Native.fail`, in wasmtime's words, or with what a host function raised."""
    if not error and not trap:
        raise EngineError("the instance is closed")
    text = report(error or None, c_void_p(trap))
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


class RawBeside:
    """`Beside`: the kernel and its memory in the guest's store."""

    def __init__(
        self, linker: RawLinker, opened: Opened, kernel: RawInstance, memory: RawInstance, guest: RawInstance
    ) -> None:
        self._linker = linker
        self._opened: Opened | None = opened
        self._kernel = kernel
        self._memory = memory.memory
        self._guest = guest.memory

    @property
    def native(self) -> RawNative:
        """Raises `EngineError` once it is closed."""
        if self._opened is None:
            raise EngineError("the instance is closed")
        return RawNative(self._linker, self._opened, self._kernel, self._guest.address)

    def function(self, name: str, told_as: Told = "") -> base.GuestFunction:
        """The kernel's exported function, whose time is told under the name of the callback that it enters."""
        function = self._kernel.function(name, told_as)
        assert function is not None
        return function

    def words(self, address: int, count: int) -> Any:
        """A ctypes array over the memory itself. Raises `LinkError` for what is not inside it."""
        self._check(address, 4 * count)
        return (c_uint32 * count).from_address(self._memory.address + address)

    def address(self, address: int, size: int) -> int:
        """In this process. Raises `LinkError` for what is not inside the memory."""
        self._check(address, size)
        return self._memory.address + address

    def view(self, address: int, size: int) -> memoryview:
        """Of the memory itself. Raises `LinkError` for what is not inside it."""
        return memoryview(self.characters(address, size)).cast("B")

    def characters(self, address: int, size: int) -> Any:
        """A ctypes array over the memory itself. Raises `LinkError` for what is not inside it."""
        self._check(address, size)
        return (c_char * size).from_address(self._memory.address + address)

    def close(self) -> None:
        """Close kernel and memory; the store is the guest's."""
        self._opened = None
        self._kernel.close()
        self._memory.close()

    def _check(self, address: int, size: int) -> None:
        if address + size > self._memory.size:
            raise LinkError("the kernel's window is not inside its memory")


def instantiate_beside(
    linker: RawLinker,
    guest: Compiled,
    functions: Functions,
    companion: Companion,
    limits: SpaceLimits,
    time_limit: base.TimeLimit | None,
) -> tuple[RawInstance, RawBeside]:
    """The instance and what stands beside it, in the order that `Companion` says."""
    opened = linker.open(guest, OF_COMPANION, time_limit, companion=True)
    return _Linking(linker, functions, companion, opened).instantiate(guest, limits)


class _Linking:
    """One guest's linking, step by step."""

    def __init__(self, linker: RawLinker, functions: Functions, companion: Companion, opened: Opened) -> None:
        self._linker = linker
        self._functions = functions
        self._companion = companion
        self._opened = opened

    def instantiate(self, module: Compiled, limits: SpaceLimits) -> tuple[RawInstance, RawBeside]:
        companion = self._companion
        trampolines = self._instance(companion.trampolines, [])
        limits.apply(self._opened.context.store, companion=True)
        guest = self._guest(module, trampolines)
        if "memory" not in module.exports:
            raise LinkError('the module exports no memory named "memory"')
        shim = self._instance(companion.shim, [guest.export("memory"), trampolines.export("memory")])
        kernel = self._instance(companion.kernel, self._of_kernel(module, guest, trampolines, shim))
        patched = [
            (trampolines if item.module == "trampolines" else kernel).export(item.name)
            for item in companion.patch.imports
        ]
        self._instance(companion.patch, patched)
        return guest, RawBeside(self._linker, self._opened, kernel, trampolines, guest)

    def _instance(self, module: base.Module | Compiled, given: Sequence[Any]) -> RawInstance:
        externs = (ffi.wasmtime_extern_t * len(given))(*given)
        own = cast("Compiled", module)
        return RawInstance(self._linker.invoke, self._opened, own, externs)

    def _guest(self, module: Compiled, trampolines: RawInstance) -> RawInstance:
        c_imports = module.c_imports
        # The same refusals as without a companion; what is given to a trampoline is checked, too.
        host = cast("Mapping[tuple[str, str], base.HostFunction]", self._functions)
        given = []
        for index, (item, function) in enumerate(
            zip(module.imports, find_functions(module.imports, host), strict=True)
        ):
            trampoline = self._companion.trampoline(item)
            if trampoline is None:
                given.append(self._define(item, c_imports[index], function))
            else:
                given.append(trampolines.export(trampoline))
        return self._instance(module, given)

    def _define(self, item: base.Import, c_import: Any, function: base.HostFunction | NativeFunction) -> Any:
        extern = ffi.wasmtime_extern_t()
        self._linker.define(self._opened, item, c_import, function, extern)
        return extern

    def _of_kernel(
        self, module: Compiled, guest: RawInstance, trampolines: RawInstance, shim: RawInstance
    ) -> list[Any]:
        companion = self._companion
        kernel = cast("Compiled", companion.kernel)
        c_imports = kernel.c_imports
        given = []
        for index, item in enumerate(companion.kernel.imports):
            export = next((name for name in companion.exports(item.name) if name in module.exports), None)
            slow = companion.slow(item.name)
            function = None if slow is None else self._functions.get(slow)
            if item.name == "memory":
                given.append(trampolines.export("memory"))
            elif export is not None:
                given.append(guest.export(export))
            elif function is not None:
                given.append(self._define(item, c_imports[index], function))
            elif item.name in companion.shim.exports:
                given.append(shim.export(item.name))
            else:
                given.append(trampolines.export(item.name))
        return given
