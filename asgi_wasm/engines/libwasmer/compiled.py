"""A compiled module of libwasmer's: who owns it, what it imports and exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import byref
from functools import cached_property
from typing import Any

from asgi_wasm.engines import base
from asgi_wasm.engines.libwasmer.api import (
    FUNC,
    KINDS,
    REFUSED_FEATURES,
    VALUE_TYPES,
    Api,
    Vector,
)
from asgi_wasm.engines.libwasmer.metering import COUNTERS, push_metering


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


class Compiled:
    """What a module imports and exports. Its own store is only what compiled it: each instance has one of its own."""

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

    def close(self) -> None:
        """`base.Module.close`: it is in memory, which its owner frees."""

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
