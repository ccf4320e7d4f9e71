"""Every engine that this Python has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp
from asgi_wasm.testing import WasmPlugin
from tests.plugins.callouts import PLUGINS, conf

__all__ = ["ENGINES", "PLUGINS", "Make", "Wrap"]

ENGINES = ["wasmtime"] + (["wasmer"] if find_spec("wasmer_compiler_cranelift") else [])
Wrap = Callable[..., WasmMiddleware]
Make = Callable[..., WasmPlugin]


@pytest.fixture(params=ENGINES)
def plugin(request: pytest.FixtureRequest, wasm_plugin: Make) -> Make:
    """A plugin as its author tests it: ``plugin("counter/assemblyscript", conf, …)``."""

    def make(file: str, conf: Any = None, **options: Any) -> WasmPlugin:
        return wasm_plugin(PLUGINS / f"{file}.wasm", conf, name=file.partition("/")[0], engine=request.param, **options)

    return make


@pytest.fixture
def scripted(wasm_plugin: Make) -> Make:
    """The plugin `callouts` with the steps of its callbacks: ``scripted(configure=[…], settings=…)``."""

    def make(*, settings: Any = None, vm_conf: str = "", **steps: Sequence[str]) -> WasmPlugin:
        file = PLUGINS / "callouts/c.wasm"
        return wasm_plugin(file, conf(**steps), name="callouts", vm_conf=vm_conf, settings=settings)

    return make


@pytest.fixture(params=ENGINES)
def wrap(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Wrap:
    """Puts one plugin before an app, with the services of a server: ``wrap(app, "counter/assemblyscript", conf=…)``."""
    # One cache for the whole run, which is the testing kit's: a Go plugin takes seconds to compile.
    cache = tmp_path_factory.getbasetemp() / "compiled"

    def wrap(app: ASGIApp, file: str, upstreams: Any = None, **entry: Any) -> WasmMiddleware:
        plugin = {"name": file.partition("/")[0], "file": PLUGINS / f"{file}.wasm", **entry}
        settings = {"plugins": [plugin], "engine": request.param, "cache_dir": str(cache), "routes": []}
        return WasmMiddleware(app, settings={**settings, "upstreams": upstreams or {}})

    return wrap
