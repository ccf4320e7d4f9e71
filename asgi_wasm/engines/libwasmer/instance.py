"""A running module of libwasmer's, its memory, and calls into it and out of it."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from ctypes import CFUNCTYPE, POINTER, byref, c_size_t, c_uint32, c_void_p
from typing import TYPE_CHECKING, Any, NoReturn

from asgi_wasm.engines import base
from asgi_wasm.engines.binary import one_sentence
from asgi_wasm.engines.libwasmer.api import VALUE_KINDS, Api, Bytes, Value, Values, Vector, take_bytes
from asgi_wasm.engines.libwasmer.metering import points
from asgi_wasm.engines.traps import CALL_DEPTH, MOST_FRAMES, Failure, headroom, outside_memory, trap_error
from asgi_wasm.errors import EngineError, LinkError

if TYPE_CHECKING:
    from asgi_wasm.engines.libwasmer.compiled import Compiled

MASKS = {base.I32: 0xFFFFFFFF, base.I64: 0xFFFFFFFFFFFFFFFF, base.F32: 0xFFFFFFFF, base.F64: 0xFFFFFFFFFFFFFFFF}
_RAISED = b"a host function raised\0"
# wasm_trap_t *callback(const wasm_val_vec_t *arguments, wasm_val_vec_t *results)
_Callback = CFUNCTYPE(c_size_t, POINTER(Values), POINTER(Values))


class LibwasmerInstance:
    """`base.Instance`, with a store of its own. Metering, and each call of the host, look at its time."""

    def __init__(
        self, module: Compiled, functions: Sequence[base.HostFunction], time_limit: base.TimeLimit | None
    ) -> None:
        """Raises `LinkError`, or the `TrapError` of a start section."""
        self._api = api = module.api
        self._module = module
        self._failure = Failure()
        self._limit = time_limit
        self._points = points(time_limit)
        self._depth = 0
        # When the present entry is over at the latest, which is seen where it calls the host; and whether it was.
        self._seconds = time_limit.seconds if time_limit is not None else 0.0
        self._deadline = time.monotonic() + self._seconds if self._seconds else 0.0
        self._late = False
        self._exports = Vector()
        self._instance: Any = None
        self._bound = [[function] for function in functions]
        self._store: Any = api.store_new(module.owner.engine)
        self._callbacks: list[Any] = []
        externs = (c_void_p * len(functions))()
        for index, (imported, bound) in enumerate(zip(module.imports, self._bound, strict=True)):
            externs[index] = api.func_as_extern(self._function(imported, bound))
        self._start(Vector(len(functions), ctypes.cast(externs, POINTER(c_void_p))))

    def _start(self, imports: Vector) -> None:
        api, trap = self._api, c_void_p()
        headroom(CALL_DEPTH)
        self._instance = api.instance_new(self._store, self._module.owner.module, byref(imports), byref(trap))
        if not self._instance:
            kept = self._failure.take()
            if trap:
                error: EngineError = self._trap(trap.value, kept, "it", exhausted=False)
                self.close()
                raise error from kept
            text = one_sentence(api.last_error())
            self.close()
            raise LinkError(f"wasmer cannot instantiate the module: {text}")
        api.instance_exports(self._instance, byref(self._exports))
        self._index = {name: index for index, name in enumerate(self._module.all_exports)}

    def _function(self, imported: base.Import, bound: list[base.HostFunction]) -> Any:
        assert imported.type is not None
        api = self._api
        sides = []
        for names in (imported.type.params, imported.type.results):
            types = (c_void_p * len(names))(*(api.valtype_new(VALUE_KINDS[name]) for name in names))
            sides.append(Vector())
            api.valtype_vec_new(byref(sides[-1]), len(names), types)
        type_ = api.functype_new(byref(sides[0]), byref(sides[1]))
        callback = _Callback(self._callback(imported, bound))
        self._callbacks.append(callback)
        function = api.func_new(self._store, type_, callback)
        api.functype_delete(type_)
        return function

    def _callback(self, imported: base.Import, bound: list[base.HostFunction]) -> Callable[[Any, Any], int]:
        assert imported.type is not None
        masks = [MASKS[name] for name in imported.type.params]
        result = imported.type.results[0] if imported.type.results else None
        failure, source = self._failure, f"{imported.module}.{imported.name}"

        def callback(arguments: Any, results: Any) -> int:
            try:
                if self._deadline and time.monotonic() >= self._deadline:
                    self._late = True
                    return self._api.trap_new(self._store, byref(Bytes.of(_RAISED)))  # type: ignore[no-any-return]
                (function,) = bound
                data = arguments.contents.data
                value = function(*[data[index].bits & mask for index, mask in enumerate(masks)])
                if result is not None:
                    slot = results.contents.data[0]
                    slot.kind, slot.bits = VALUE_KINDS[result], value & MASKS[result]  # type: ignore[operator]
            except BaseException as error:
                failure.error, failure.source = error, source
                return self._api.trap_new(self._store, byref(Bytes.of(_RAISED)))  # type: ignore[no-any-return]
            return 0

        return callback

    @property
    def memory(self) -> LibwasmerMemory:
        """The exported memory, a new object each time. Raises `LinkError` when there is none."""
        export = self._module.exports.get("memory")
        if export is None or export.kind != "memory":
            raise LinkError('the module exports no memory named "memory"')
        return LibwasmerMemory(self, self._api, self._api.extern_as_memory(self._extern("memory")))

    def function(self, name: str) -> base.GuestFunction | None:
        """`base.Instance.function`. One with several results returns the first."""
        export = self._module.exports.get(name)
        if export is None or export.type is None:
            return None
        return self._bind(name, self._api.extern_as_func(self._extern(name)), export.type)

    def _bind(self, name: str, function: Any, type_: base.FuncType) -> base.GuestFunction:
        kinds, count = [VALUE_KINDS[each] for each in type_.params], len(type_.results)
        masks = [MASKS[each] for each in type_.params]
        mask = MASKS[type_.results[0]] if count else 0
        call, set_points = self._api.func_call, self._api.metering_set_remaining_points

        def run(*arguments: int) -> int | None:
            if self._instance is None:
                raise EngineError("the instance is closed")
            if len(arguments) != len(kinds):
                raise TypeError(f"the guest's function takes {len(kinds)} arguments, not {len(arguments)}")
            given = (Value * len(kinds))()
            for index, argument in enumerate(arguments):
                given[index].kind, given[index].bits = kinds[index], argument & masks[index]
            results = (Value * count)()
            headroom(CALL_DEPTH)
            if not self._depth:
                # The allocator, which the host calls in a hostcall, is part of the entry around it.
                set_points(self._instance, self._points)
                if self._seconds:
                    self._deadline, self._late = time.monotonic() + self._seconds, False
            self._depth += 1
            try:
                trap = call(function, byref(Values(len(kinds), given)), byref(Values(count, results)))
            finally:
                self._depth -= 1
            if trap:
                self._fail(trap, name)
            return results[0].bits & mask if count else None

        return run

    def _fail(self, trap: int, name: str) -> NoReturn:
        kept = self._failure.take()
        exhausted = self._instance is not None and self._api.metering_points_are_exhausted(self._instance)
        raise self._trap(trap, kept, name, exhausted=exhausted) from kept

    def _trap(self, trap: int | None, kept: BaseException | None, name: str, *, exhausted: bool) -> EngineError:
        api, text, frames = self._api, Bytes(), Vector()
        api.trap_message(trap, byref(text))
        reason = f"wasm trap: {take_bytes(api, text).decode('utf-8', 'replace').rstrip(chr(0))}"
        api.trap_trace(trap, byref(frames))
        # One more than is shown, so that it is seen that there are more.
        names = [self._frame(frames.data[index]) for index in range(min(frames.size, MOST_FRAMES))]
        api.frame_vec_delete(byref(frames))
        api.trap_delete(trap)
        if (exhausted or self._late) and kept is None:
            told = self._limit.told_as if self._limit else ""
            ran = f"{self._seconds * 1000:.0f} ms" if self._late else f"{self._points} instructions"
            reason = f"wasm trap: interrupted, since {name} ran for {ran}, {told}"
        return trap_error(one_sentence(reason), names, kept, self._failure.source)

    def _frame(self, frame: Any) -> str:
        name = c_void_p(self._api.frame_func_name(frame))
        if not name:
            return f"<wasm function {self._api.frame_func_index(frame)}>"
        text = ctypes.string_at(name.value or 0).decode("utf-8", "replace")
        self._api.name_delete(byref(name))
        return text

    def _extern(self, name: str) -> Any:
        if self._instance is None:
            raise EngineError("the instance is closed")
        return self._exports.data[self._index[name]]

    @property
    def is_open(self) -> bool:
        """False after `close`; nothing else frees it."""
        return self._instance is not None

    def close(self) -> None:
        """`base.Instance.close`. During a call the store lives until the call has ended."""
        for bound in self._bound:
            bound.clear()
        if self._depth:
            self._instance = None
            return
        instance, self._instance = self._instance, None
        store, self._store = self._store, None
        if self._exports.size:
            self._api.extern_vec_delete(byref(self._exports))
            self._exports = Vector()
        if instance:
            self._api.instance_delete(instance)
        if store:
            self._api.store_delete(store)

    def __del__(self) -> None:
        if getattr(self, "_store", None):
            self._depth = 0
            self.close()


class LibwasmerMemory:
    """`base.Memory`. Address and size are asked for at each access: a memory that grows may move."""

    __slots__ = ("_api", "_instance", "_memory")

    def __init__(self, instance: LibwasmerInstance, api: Api, memory: Any) -> None:
        self._instance = instance
        self._api = api
        self._memory = memory

    @property
    def size(self) -> int:
        """In bytes, as the library says now. Raises `EngineError` for a closed instance."""
        if not self._instance.is_open:
            raise EngineError("the instance is closed")
        return int(self._api.memory_data_size(self._memory))

    def read(self, address: int, size: int) -> bytes:
        """A copy from the present address. Raises `MemoryAccessError`."""
        start = self._start(address, size)
        return ctypes.string_at(start, size) if size else b""

    def write(self, address: int, data: bytes) -> None:
        """To the present address. Raises `MemoryAccessError`."""
        start, data = self._start(address, len(data)), bytes(data)
        if data:
            ctypes.memmove(start, data, len(data))

    def write_u32(self, address: int, value: int) -> None:
        """In place, at the present address. Raises `MemoryAccessError`."""
        c_uint32.from_address(self._start(address, 4)).value = value & 0xFFFFFFFF

    def _start(self, address: int, size: int) -> int:
        present = self.size
        if address + size > present:
            raise outside_memory(address, size, present)
        return int(self._api.memory_data(self._memory) or 0) + address
