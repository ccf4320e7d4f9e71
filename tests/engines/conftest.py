"""Every engine that this Python has, each under the name that a failing test should show."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable

import pytest

from asgi_wasm.engines import create_engine
from asgi_wasm.engines.base import Engine
from asgi_wasm.engines.libwasmer import LibwasmerEngine
from asgi_wasm.engines.wasmtime import WasmtimeEngine
from asgi_wasm.errors import EngineUnavailableError

ENGINES: dict[str, Callable[[], Engine]] = {
    "wasmtime": WasmtimeEngine,
    "wasmtime-moving": lambda: WasmtimeEngine(reserve=False),
    "wasmtime-public": lambda: WasmtimeEngine(raw=False),
}
if sys.version_info[:2] <= (3, 10) and importlib.util.find_spec("wasmer") is not None:
    ENGINES["wasmer"] = lambda: create_engine("wasmer")
try:
    LibwasmerEngine()
    ENGINES["libwasmer"] = LibwasmerEngine
except EngineUnavailableError:
    # `make test-libwasmer` builds it.
    pass


@pytest.fixture(scope="session", params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    engine = ENGINES[request.param]()
    if request.param in ("wasmtime", "wasmtime-moving"):
        assert isinstance(engine, WasmtimeEngine)
        assert engine.uses_raw_api  # or else the fallback would be tested twice
        assert engine.memory_may_move == (request.param == "wasmtime-moving")
    return engine
