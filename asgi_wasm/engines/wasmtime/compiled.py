"""A compiled module: what it imports and exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi

from asgi_wasm.engines import base
from asgi_wasm.engines.wasmtime.interruption import Guarded

VALUE_TYPES = {0: base.I32, 1: base.I64, 2: base.F32, 3: base.F64}
KINDS: dict[str, str] = {
    "FuncType": "func",
    "MemoryType": "memory",
    "TableType": "table",
    "GlobalType": "global",
}


class Compiled:
    """What instances are made of."""

    def __init__(self, engine: Guarded, module: wasmtime.Module) -> None:
        self.engine = engine
        self.module = module

    @cached_property
    def c_imports(self) -> Sequence[wasmtime.ImportType]:
        """As the wheel's classes have them. To make the list costs more than an instance."""
        return self.module.imports

    @cached_property
    def imports(self) -> Sequence[base.Import]:
        """In the order in which an instance wants them; what the wheel's classes do not know is an unknown item."""
        return tuple(base.Import(each.module, each.name or "", *_describe(each)) for each in self.c_imports)

    @cached_property
    def exports(self) -> Mapping[str, base.Export]:
        """By name; of kinds as `imports`."""
        return {each.name: base.Export(each.name, *_describe(each)) for each in self.module.exports}

    def close(self) -> None:
        """Let go of the compiled code, which instances keep as long as they need it (`base.Module.close`)."""
        self.module.close()


def _describe(item: wasmtime.ImportType | wasmtime.ExportType) -> tuple[str, base.FuncType | None]:
    try:
        type_ = item.type
    except wasmtime.WasmtimeError:  # a kind that this wasmtime's Python classes do not know
        return "unknown item", None
    if isinstance(type_, wasmtime.FuncType):
        return "func", base.FuncType(_names(type_.params), _names(type_.results))
    return KINDS.get(type(type_).__name__, type(type_).__name__), None


def _names(types: Sequence[wasmtime.ValType]) -> tuple[str, ...]:
    return tuple(VALUE_TYPES[_kind(each)] for each in types)


def _kind(type_: wasmtime.ValType) -> int:
    kind: Any = ffi.wasm_valtype_kind(type_.ptr())  # ctypes makes an int of what the bindings call a c_uint8
    return int(kind)
