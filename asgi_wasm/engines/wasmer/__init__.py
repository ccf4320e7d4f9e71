"""Wasmer, by its Python package, whose last release (1.1.0) is for CPython up to 3.10.

What it lacks: memory limits, and any way to interrupt a guest.
"""

from __future__ import annotations

import hashlib
import importlib
import platform
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asgi_wasm.engines import base
from asgi_wasm.engines.binary import check_header, check_signatures, one_sentence
from asgi_wasm.engines.linking import find_functions
from asgi_wasm.engines.threads import CompilerThreads
from asgi_wasm.engines.traps import Failure
from asgi_wasm.engines.wasmer.calls import BoundFunction, HostFunctionFailed, trap_of
from asgi_wasm.engines.wasmer.instance import WasmerInstance
from asgi_wasm.errors import EngineUnavailableError, InvalidModuleError, LinkError

__all__ = ["WasmerEngine", "WasmerModule"]

NEWEST_PYTHON = (3, 10)

# Wasmer crashes on compiled code that was cut short, hence a digest before it.
SEAL = b"asgi-wasm wasmer 1\n"

KINDS = {"FunctionType": "func", "MemoryType": "memory", "TableType": "table", "GlobalType": "global"}


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
        CompilerThreads.require(self.name)
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

    def close(self) -> None:
        """`base.Module.close`: it is in memory, which the package frees with its objects."""

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
        bound: list[BoundFunction] = []
        objects: dict[str, dict[str, Any]] = {}
        for imported, raw, function in zip(self.imports, module.imports, found, strict=True):
            assert imported.type is not None
            name = (imported.module, imported.name)
            if types.setdefault(name, imported.type) != imported.type:
                raise LinkError(f"import {'.'.join(name)} is asked for with two types, which wasmer cannot give")
            bound.append(BoundFunction(function, imported, failure))
            type_ = self._wasmer.FunctionType(raw.type.params, raw.type.results)
            objects.setdefault(name[0], {})[name[1]] = self._wasmer.Function(store, bound[-1].callback(), type_)
        try:
            instance = self._wasmer.Instance(module, objects)
        except (RuntimeError, HostFunctionFailed) as error:
            kept = failure.take()
            if kept is None and not str(error).startswith("RuntimeError: "):
                raise LinkError(f"wasmer cannot instantiate the module: {one_sentence(str(error))}") from None
            raise trap_of(error, kept, failure.source) from kept
        return WasmerInstance(instance, self.exports, bound, failure)

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
