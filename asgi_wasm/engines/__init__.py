"""The engines that run guests, all behind the interface of `asgi_wasm.engines.base`.

Nothing is imported or compiled here until an engine is asked for: who is forked from a process that has compiled
compiles slowly, or not at all (`threads`).
"""

from __future__ import annotations

from pathlib import Path

from asgi_wasm.engines.base import DEFAULT_STACK_LIMIT, Engine
from asgi_wasm.errors import EngineUnavailableError, SettingsError

__all__ = ["ENGINES", "create_engine"]

ENGINES = ("auto", "wasmtime", "wasmer")


def create_engine(
    name: str = "auto", *, stack_limit: int = DEFAULT_STACK_LIMIT, wasmer_library: Path | None = None
) -> Engine:
    """The engine of that name; "auto" is wasmtime. ``stack_limit`` is in bytes; wasmer has its own.

    Raises `SettingsError` for an unknown name, `EngineUnavailableError` when the engine does not run here.
    """
    if name in ("auto", "wasmtime"):
        return _wasmtime(stack_limit)
    if name == "wasmer":
        return _wasmer(wasmer_library)
    raise SettingsError(f"engine = {name!r} is unknown: choose one of {', '.join(map(repr, ENGINES))}")


def _wasmer(library: Path | None) -> Engine:
    """The package where it works, else libwasmer; the library that is named, if one is."""
    from asgi_wasm.engines.libwasmer import LibraryNotFoundError, LibwasmerEngine
    from asgi_wasm.engines.wasmer import WasmerEngine

    if library is not None:
        return LibwasmerEngine(library)
    try:
        return WasmerEngine()
    except EngineUnavailableError as package:
        try:
            return LibwasmerEngine()
        except LibraryNotFoundError as error:
            raise EngineUnavailableError(f"{package}, or {error}") from None


def _wasmtime(stack_limit: int) -> Engine:
    try:
        from asgi_wasm.engines.wasmtime import WasmtimeEngine
    except (ImportError, OSError, RuntimeError) as error:  # the wheel's own words for a platform it does not know
        raise EngineUnavailableError(f"the engine wasmtime cannot be loaded here: {error}") from error
    return WasmtimeEngine(stack_limit=stack_limit)
