"""Wasmer on any Python: its shared library, libwasmer 7, by the standard C API of WebAssembly (``wasm.h``) and ctypes.

What it lacks: memory limits, which that API has no word for. Its time limit is one of instructions (`metering`), and
one of time where the guest calls the host; nobody is told of a guest that is slow.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Mapping, Sequence
from ctypes import byref
from functools import cached_property
from pathlib import Path
from typing import Any

from asgi_wasm.engines import base
from asgi_wasm.engines.binary import check_header, check_signatures, one_sentence
from asgi_wasm.engines.libwasmer.api import (
    FUNC,
    KINDS,
    REFUSED_FEATURES,
    VALUE_TYPES,
    Api,
    Bytes,
    LibraryNotFoundError,
    Vector,
    take_bytes,
)
from asgi_wasm.engines.libwasmer.instance import LibwasmerInstance
from asgi_wasm.engines.libwasmer.metering import COUNTERS, push_metering
from asgi_wasm.engines.linking import find_functions
from asgi_wasm.errors import InvalidModuleError

__all__ = ["LibraryNotFoundError", "LibwasmerEngine", "LibwasmerModule"]

# It may crash on compiled code that was cut short, hence a digest before it.
SEAL = b"asgi-wasm libwasmer 1\n"


class LibwasmerEngine:
    """`base.Engine` by libwasmer. Raises `EngineUnavailableError` where the library cannot be found, or is another."""

    name = "wasmer"
    limits_memory = False
    limits_time = True

    def __init__(self, library: Path | None = None) -> None:
        self.api = Api(library)

    @property
    def fingerprint(self) -> str:
        """The library's version and the platform."""
        return f"wasmer-{self.api.version}-c-api-metering-1-{sys.platform}-{platform.machine()}"

    def compile(self, code: bytes) -> LibwasmerModule:
        """`base.Engine.compile`, with an engine of its own, since a metering counts for one module only."""
        check_header(code)
        owner = Owner(self.api)
        owner.module = self.api.module_new(owner.store, byref(Bytes.of(code)))
        if not owner.module:
            raise InvalidModuleError(f"wasmer refuses it: {one_sentence(self.api.last_error())}")
        check_signatures(code)
        return LibwasmerModule(self.api, owner)

    def deserialize(self, compiled: bytes) -> LibwasmerModule:
        """`base.Engine.deserialize`. A digest is compared first: it may crash on code that was cut short."""
        start = len(SEAL) + hashlib.sha256().digest_size
        payload = compiled[start:]
        if compiled[:start] != SEAL + hashlib.sha256(payload).digest():
            raise InvalidModuleError("the compiled code is not wasmer's, or damaged")
        owner = Owner(self.api)
        owner.module = self.api.module_deserialize(owner.store, byref(Bytes.of(payload)))
        if not owner.module:
            raise InvalidModuleError(f"wasmer refuses the compiled code: {one_sentence(self.api.last_error())}")
        return LibwasmerModule(self.api, owner)

    def deserialize_file(self, path: Path) -> LibwasmerModule:
        """Read, not mapped: ``wasm.h`` maps no files."""
        return self.deserialize(path.read_bytes())


class Owner:
    """What is freed with a module. Each has an engine of its own, since a metering counts for one module only."""

    def __init__(self, api: Api) -> None:
        self._api = api
        config = api.config_new()
        features = api.features_new()
        for name in REFUSED_FEATURES:
            getattr(api, f"features_{name}")(features, False)
        api.config_set_features(config, features)
        push_metering(api, config)
        self.engine = api.engine_new_with_config(config)
        self.store = api.store_new(self.engine)
        self.module: Any = None

    def __del__(self) -> None:
        if self.module:
            self._api.module_delete(self.module)
        self._api.store_delete(self.store)
        self._api.engine_delete(self.engine)


class LibwasmerModule:
    """`base.Module`. Its own store is only what compiled it: each instance has one of its own."""

    def __init__(self, api: Api, owner: Owner) -> None:
        self.api = api
        self.owner = owner

    @cached_property
    def imports(self) -> Sequence[base.Import]:
        """In the order in which an instance wants them."""
        api, found, vector = self.api, [], Vector()
        api.module_imports(self.owner.module, byref(vector))
        for index in range(vector.size):
            item = vector.data[index]
            module, name = api.importtype_module(item).contents.text(), api.importtype_name(item).contents.text()
            found.append(base.Import(module, name, *self._describe(api.importtype_type(item))))
        api.importtype_vec_delete(byref(vector))
        return tuple(found)

    @property
    def exports(self) -> Mapping[str, base.Export]:
        """By name, without those that metering adds."""
        return {name: export for name, export in self.all_exports.items() if name not in COUNTERS}

    @cached_property
    def all_exports(self) -> Mapping[str, base.Export]:
        """With those that metering adds. In the order in which an instance has them."""
        api, found, vector = self.api, {}, Vector()
        api.module_exports(self.owner.module, byref(vector))
        for index in range(vector.size):
            item = vector.data[index]
            name = api.exporttype_name(item).contents.text()
            found[name] = base.Export(name, *self._describe(api.exporttype_type(item)))
        api.exporttype_vec_delete(byref(vector))
        return found

    def _describe(self, type_: Any) -> tuple[str, base.FuncType | None]:
        api = self.api
        kind = api.externtype_kind(type_)
        if kind != FUNC:
            return KINDS.get(kind, "unknown item"), None
        function = api.externtype_as_functype_const(type_)
        sides = (api.functype_params(function), api.functype_results(function))
        return "func", base.FuncType(*(self._names(side.contents) for side in sides))

    def _names(self, types: Vector) -> tuple[str, ...]:
        kinds = (self.api.valtype_kind(types.data[index]) for index in range(types.size))
        return tuple(VALUE_TYPES.get(kind, "reference") for kind in kinds)

    def instantiate(
        self,
        functions: Mapping[tuple[str, str], base.HostFunction],
        *,
        memory_limit: int,
        table_limit: int = base.DEFAULT_TABLE_LIMIT,
        time_limit: base.TimeLimit | None = None,
    ) -> LibwasmerInstance:
        """`base.Module.instantiate`. Limits of memory are not kept, that of time by instructions."""
        return LibwasmerInstance(self, find_functions(self.imports, functions), time_limit)

    def serialize(self) -> bytes:
        """Wasmer's own format, after a mark and a digest."""
        out = Bytes()
        self.api.module_serialize(self.owner.module, byref(out))
        payload = take_bytes(self.api, out)
        return SEAL + hashlib.sha256(payload).digest() + payload
