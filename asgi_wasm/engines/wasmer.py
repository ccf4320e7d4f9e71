"""Wasmer, by its Python package, whose last release (1.1.0) is for CPython up to 3.10.

What it lacks: memory limits, and any way to interrupt a guest.
"""

from __future__ import annotations

import hashlib
import importlib
import platform
import re
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from asgi_wasm.engines import base
from asgi_wasm.engines.binary import check_header, check_signatures, one_sentence
from asgi_wasm.engines.linking import find_functions
from asgi_wasm.engines.traps import Failure, outside_memory, trap_error
from asgi_wasm.errors import EngineError, EngineUnavailableError, InvalidModuleError, LinkError

__all__ = ["WasmerEngine", "WasmerModule"]

NEWEST_PYTHON = (3, 10)

# Wasmer crashes on compiled code that was cut short, hence a digest before it.
SEAL = b"asgi-wasm wasmer 1\n"

KINDS = {"FunctionType": "func", "MemoryType": "memory", "TableType": "table", "GlobalType": "global"}
MASKS = {base.I32: 0xFFFFFFFF, base.I64: 0xFFFFFFFFFFFFFFFF}
FLOATS = {base.F32: ("<I", "<f"), base.F64: ("<Q", "<d")}

_FRAME = re.compile(r"^\s+at (.+) \(.*\)$", re.MULTILINE)
_pack_u32 = struct.Struct("<I").pack_into


class _HostFunctionFailed(Exception):  # noqa: N818  # a signal to the guest's frames, never seen outside
    pass


class WasmerEngine:
    """`base.Engine` by the package wasmer. Raises `EngineUnavailableError` where it cannot be imported."""

    name = "wasmer"
    limits_time = False
    limits_memory = False

    def __init__(self) -> None:
        self._wasmer, compiler = _import_wasmer()
        self._compiler = compiler.Compiler
        self.store = self._fresh_store()

    def _fresh_store(self) -> Any:
        return self._wasmer.Store(self._wasmer.engine.Universal(self._compiler))

    @property
    def fingerprint(self) -> str:
        """The package's version, the compiler and the platform."""
        return f"wasmer-{self._wasmer.__version__}-cranelift-{sys.platform}-{platform.machine()}"

    def compile(self, code: bytes) -> WasmerModule:
        """`base.Engine.compile`. What makes the package panic is refused too; the engine goes on with a new store."""
        check_header(code)
        try:
            module = self._wasmer.Module(self.store, bytes(code))
        except RuntimeError as error:
            raise InvalidModuleError(f"wasmer refuses it: {one_sentence(str(error))}") from None
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            # What it was not made for (tags, say) ends in a panic, after which this store refuses everything.
            self.store = self._fresh_store()
            raise InvalidModuleError(f"wasmer refuses it: {one_sentence(str(error))}") from None
        check_signatures(code)
        return self._module(module)

    def deserialize(self, compiled: bytes) -> WasmerModule:
        """`base.Engine.deserialize`. A digest is compared first: wasmer crashes on code that was cut short."""
        payload = _unseal(compiled)
        try:
            module = self._wasmer.Module.deserialize(self.store, payload)
        except RuntimeError as error:
            raise InvalidModuleError(f"wasmer refuses the compiled code: {one_sentence(str(error))}") from None
        return self._module(module)

    def deserialize_file(self, path: Path) -> WasmerModule:
        """Read, not mapped: the package maps no files."""
        return self.deserialize(path.read_bytes())

    def _module(self, module: Any) -> WasmerModule:
        return WasmerModule(self._wasmer, self, module)


class WasmerModule:
    """`base.Module`, kept as compiled code.

    A module of wasmer's may be touched by no thread but the one that made it, or Python panics; and modules are
    compiled on one thread and instantiated on another. So what is kept is compiled code, and each thread that
    instantiates makes a module of it.
    """

    def __init__(self, wasmer: Any, engine: WasmerEngine, module: Any) -> None:
        self._wasmer = wasmer
        self._engine = engine
        self._compiled = bytes(module.serialize())
        # And by store, which may be another one later.
        self._of_thread: dict[tuple[int, int], Any] = {}
        self.imports = tuple(base.Import(each.module, each.name, *self._describe(each.type)) for each in module.imports)
        self.exports: Mapping[str, base.Export] = {
            each.name: base.Export(each.name, *self._describe(each.type)) for each in module.exports
        }

    def _module(self, store: Any) -> Any:
        key = threading.get_ident(), id(store)
        module = self._of_thread.get(key)
        if module is None:
            module = self._of_thread[key] = self._wasmer.Module.deserialize(store, self._compiled)
        return module

    def instantiate(
        self,
        functions: Mapping[tuple[str, str], base.HostFunction],
        *,
        memory_limit: int,
        table_limit: int = base.DEFAULT_TABLE_LIMIT,
        time_limit: base.TimeLimit | None = None,
    ) -> WasmerInstance:
        """`base.Module.instantiate` without limits. One import with two types is a `LinkError` here."""
        found = find_functions(self.imports, functions)
        failure = Failure()
        store = self._engine.store
        module = self._module(store)
        # Wasmer finds imports by name, so a function that is imported twice needs one type for both.
        types: dict[tuple[str, str], base.FuncType] = {}
        bound: list[_Bound] = []
        objects: dict[str, dict[str, Any]] = {}
        for imported, raw, function in zip(self.imports, module.imports, found, strict=True):
            assert imported.type is not None
            name = (imported.module, imported.name)
            if types.setdefault(name, imported.type) != imported.type:
                raise LinkError(f"import {'.'.join(name)} is asked for with two types, which wasmer cannot give")
            bound.append(_Bound(function, imported, failure))
            type_ = self._wasmer.FunctionType(raw.type.params, raw.type.results)
            objects.setdefault(name[0], {})[name[1]] = self._wasmer.Function(store, bound[-1].callback(), type_)
        try:
            instance = self._wasmer.Instance(module, objects)
        except (RuntimeError, _HostFunctionFailed) as error:
            kept = failure.take()
            if kept is None and not str(error).startswith("RuntimeError: "):
                raise LinkError(f"wasmer cannot instantiate the module: {one_sentence(str(error))}") from None
            raise _trap(error, kept, failure.source) from kept
        return WasmerInstance(instance, self, bound, failure)

    def serialize(self) -> bytes:
        """The package's own format, after a mark and a digest."""
        return SEAL + hashlib.sha256(self._compiled).digest() + self._compiled

    def _describe(self, type_: Any) -> tuple[str, base.FuncType | None]:
        kind = KINDS.get(type(type_).__name__, type(type_).__name__)
        if kind != "func":
            return kind, None
        return kind, base.FuncType(self._names(type_.params), self._names(type_.results))

    def _names(self, types: Any) -> tuple[str, ...]:
        return tuple(self._wasmer.Type(each).name.lower() for each in types)


class WasmerInstance:
    """`base.Instance`. Only `close` breaks the cycle of host and instance, which Python's collector cannot see."""

    def __init__(self, instance: Any, module: WasmerModule, bound: list[_Bound], failure: Failure) -> None:
        self._instance = instance
        self._module = module
        self._bound = bound
        self._failure = failure

    @property
    def memory(self) -> WasmerMemory:
        """The exported memory, a new object each time. Raises `LinkError` when there is none."""
        export = self._module.exports.get("memory")
        if export is None or export.kind != "memory":
            raise LinkError('the module exports no memory named "memory"')
        return WasmerMemory(self._open_exports().memory)

    def function(self, name: str) -> base.GuestFunction | None:
        """`base.Instance.function`. One with several results returns the first."""
        export = self._module.exports.get(name)
        if export is None or export.type is None:
            return None
        return _bind_guest_function(getattr(self._open_exports(), name), export.type, self._failure)

    @property
    def is_open(self) -> bool:
        """False after `close`; nothing else frees it."""
        return self._instance is not None

    def close(self) -> None:
        """Let go of the host's functions, and of the instance, which wasmer frees then."""
        # Python's garbage collector cannot see through wasmer's objects, so a cycle of host and instance ends here.
        for each in self._bound:
            each.close()
        self._instance = None

    def _open_exports(self) -> Any:
        if self._instance is None:
            raise EngineError("the instance is closed")
        return self._instance.exports


class WasmerMemory:
    """`base.Memory`. The buffer is asked for at each access: an older one keeps an older size."""

    __slots__ = ("_memory",)

    def __init__(self, memory: Any) -> None:
        self._memory = memory

    @property
    def size(self) -> int:
        """In bytes, as the package says now."""
        return int(self._memory.data_size)

    def read(self, address: int, size: int) -> bytes:
        """A copy out of a new buffer. Raises `MemoryAccessError`."""
        return self._view(address, size).tobytes()

    def write(self, address: int, data: bytes) -> None:
        """Through a new buffer. Raises `MemoryAccessError`."""
        self._view(address, len(data))[:] = data

    def write_u32(self, address: int, value: int) -> None:
        """Packed into a new buffer. Raises `MemoryAccessError`."""
        _pack_u32(self._view(address, 4), 0, value & 0xFFFFFFFF)

    def _view(self, address: int, size: int) -> memoryview:
        view = memoryview(self._memory.buffer)
        end = address + size
        if end > len(view):
            raise outside_memory(address, size, len(view))
        return view[address:end]


class _Bound:
    """A host function as wasmer is to call it."""

    def __init__(self, function: base.HostFunction, imported: base.Import, failure: Failure) -> None:
        assert imported.type is not None
        self._function: base.HostFunction | None = function
        self._type = imported.type
        self._source = f"{imported.module}.{imported.name}"
        self._failure = failure

    def close(self) -> None:
        self._function = None

    def callback(self) -> Callable[..., Any]:
        params = self._type.params
        result_type = self._type.results[0] if self._type.results else None
        plain = not set(params) - {base.I32}

        def callback(*arguments: Any) -> Any:
            try:
                if plain:
                    values = [value & 0xFFFFFFFF for value in arguments]
                else:
                    values = [_from_wasmer(value, type_) for value, type_ in zip(arguments, params, strict=True)]
                result = self._function(*values)  # type: ignore[misc]  # calling a closed instance is a bug
                return None if result_type is None else _to_wasmer(result, result_type)
            except BaseException as error:
                self._failure.error = error
                self._failure.source = self._source
            raise _HostFunctionFailed

        return callback


def _bind_guest_function(function: Any, type_: base.FuncType, failure: Failure) -> base.GuestFunction:
    convert = [index for index, each in enumerate(type_.params) if each != base.I32]
    result_type = type_.results[0] if type_.results else None
    arity = len(type_.params)
    several = len(type_.results) > 1

    def call(*arguments: int) -> int | None:
        values: Any = arguments
        if len(arguments) != arity:
            raise TypeError(f"the guest's function takes {arity} arguments, not {len(arguments)}")
        if convert:
            values = [_to_wasmer(value, each) for value, each in zip(arguments, type_.params, strict=True)]
        try:
            result = function(*values)
        except (RuntimeError, _HostFunctionFailed) as error:
            kept = failure.take()
            raise _trap(error, kept, failure.source) from kept
        if result_type is None:
            return None
        return _from_wasmer(result[0] if several else result, result_type)

    return call


def _from_wasmer(value: Any, type_: str) -> int:
    mask = MASKS.get(type_)
    if mask is not None:
        return int(value & mask)
    bits, own = FLOATS[type_]
    return int(struct.unpack(bits, struct.pack(own, value))[0])


def _to_wasmer(value: int | None, type_: str) -> Any:
    if value is None:
        raise TypeError(f"None where the guest expects an {type_}")
    mask = MASKS.get(type_)
    if mask is not None:
        return value & mask
    bits, own = FLOATS[type_]
    return struct.unpack(own, struct.pack(bits, value))[0]


def _trap(error: BaseException, kept: BaseException | None, source: str) -> Exception:
    report = str(error)
    reason = report.partition("\n")[0].removeprefix("RuntimeError: ")
    return trap_error(f"wasm trap: {reason}", _FRAME.findall(report), kept, source)


def _unseal(compiled: bytes) -> bytes:
    start = len(SEAL) + hashlib.sha256().digest_size
    payload = compiled[start:]
    if compiled[:start] != SEAL + hashlib.sha256(payload).digest():
        raise InvalidModuleError("the compiled code is not wasmer's, or damaged")
    return payload


def _import_wasmer() -> tuple[Any, Any]:
    if sys.version_info[:2] > NEWEST_PYTHON:
        raise EngineUnavailableError(
            "wasmer's last release supports CPython up to 3.10 and this is"
            f' {platform.python_version()}: set engine = "wasmtime"'
        )
    try:
        return importlib.import_module("wasmer"), importlib.import_module("wasmer_compiler_cranelift")
    except ImportError as error:
        raise EngineUnavailableError(
            f"the engine wasmer is not installed ({error}): run pip install 'asgi-wasm[wasmer]'"
        ) from error
