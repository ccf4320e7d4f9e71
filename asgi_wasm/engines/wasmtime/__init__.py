"""Wasmtime, driven through the raw C API of its wheel.

A call through the wheel's Python classes costs 35 µs, through `raw` half a microsecond. The classes still do what is
rare: compile, list imports and exports, report errors. They also are the whole of `public`, to which the engine falls
back, with a warning, when `proof` finds that the C API of this wasmtime is not the one that `raw` knows.
"""

from __future__ import annotations

import platform
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

import wasmtime

from asgi_wasm.engines import base
from asgi_wasm.engines.binary import check_header, check_signatures, one_sentence
from asgi_wasm.engines.companion import Beside, Companion, NativeFunction
from asgi_wasm.engines.linking import find_functions
from asgi_wasm.engines.threads import CompilerThreads
from asgi_wasm.engines.wasmtime import proof, public
from asgi_wasm.engines.wasmtime.compiled import Compiled
from asgi_wasm.engines.wasmtime.config import FLAGS, can_reserve, make_config
from asgi_wasm.engines.wasmtime.interruption import Guard, native_tick, raise_epoch
from asgi_wasm.engines.wasmtime.space import SpaceLimits
from asgi_wasm.engines.wasmtime.stack import check_stack
from asgi_wasm.engines.watchdog import NativeTick
from asgi_wasm.errors import InvalidModuleError
from asgi_wasm.logs import get_logger

__all__ = ["WasmtimeEngine", "WasmtimeModule"]

logger = get_logger("asgi_wasm.engines")


class Linker(Protocol):
    """Makes instances: `raw.RawLinker` or `public.PublicLinker`."""

    def instantiate(
        self,
        module: Compiled,
        functions: Sequence[base.HostFunction],
        limits: SpaceLimits,
        time_limit: base.TimeLimit | None,
    ) -> base.Instance: ...


@cache
def _version() -> str:
    """Wasmtime's. To read it takes a millisecond, and each module asks."""
    return version("wasmtime")


class WasmtimeEngine:
    """One wasmtime engine. ``raw=False`` never tries the C API, for tests and for narrowing down a bug.

    Where the process may not reserve address space for memories, they grow instead, and may move in doing so;
    ``reserve`` says whether it may, without trying.
    """

    name = "wasmtime"
    limits_memory = True
    # Not proven on PyPy, where each look at a guest goes through its slow frames.
    limits_time = sys.implementation.name != "pypy"

    def __init__(
        self, *, raw: bool = True, reserve: bool | None = None, stack_limit: int = base.DEFAULT_STACK_LIMIT
    ) -> None:
        self._raw = raw
        self.stack_limit = stack_limit
        self._reserve = reserve
        self._lock = threading.Lock()
        self._guards: WeakSet[Guard] = WeakSet()
        self._made: tuple[wasmtime.Engine, Linker, bool] | None = None
        self._native_tick: NativeTick | None = None
        self._parallel = True

    @property
    def fingerprint(self) -> str:
        """Wasmtime's version, our flags, whether memories may move, and the platform."""
        memory = "movable" if self.memory_may_move else "fixed"
        return f"wasmtime-{_version()}-{FLAGS}-{memory}-{sys.platform}-{platform.machine()}"

    @property
    def uses_raw_api(self) -> bool:
        """Whether calls take the fast way. Runs the self-proof when it has not run yet."""
        return not isinstance(self.linker, public.PublicLinker)

    @property
    def memory_may_move(self) -> bool:
        """Whether the address of a guest's memory changes when that grows."""
        return self._make()[2]

    @property
    def engine(self) -> wasmtime.Engine:
        """Wasmtime's engine, made at first use so that a pre-forking server's parent has none."""
        return self._make()[0]

    @property
    def linker(self) -> Linker:
        """What makes instances, chosen at first use."""
        return self._make()[1]

    def tick(self) -> None:
        """Let the guests that run be looked at (`interruption`). Called by the watchdog, on its thread."""
        if self._made is not None:
            raise_epoch(self._made[0])

    @property
    def native_tick(self) -> NativeTick | None:
        """What raises the engine's epoch; None before the first compilation, when there is no engine."""
        if self._native_tick is None and self._made is not None:
            self._native_tick = native_tick(self._made[0])
        return self._native_tick

    def rest(self) -> None:
        """Let the guards forget what they have seen. Called by the watchdog, on its thread."""
        with self._lock:
            guards = list(self._guards)
        for each in guards:
            each.forget()

    def guarded(self, guard: Guard) -> None:
        """There is one guard more."""
        with self._lock:
            self._guards.add(guard)

    def compile(self, code: bytes) -> WasmtimeModule:
        """`base.Engine.compile`. Makes wasmtime's engine at its first use."""
        check_header(code)
        engine = self.engine
        if self._parallel:
            CompilerThreads.require(self.name)
        try:
            module = wasmtime.Module(engine, code)
        except wasmtime.WasmtimeError as error:
            raise InvalidModuleError(f"wasmtime refuses it: {one_sentence(str(error))}") from None
        check_signatures(code)
        return WasmtimeModule(self, module)

    def deserialize(self, compiled: bytes) -> WasmtimeModule:
        """`base.Engine.deserialize`. Wasmtime compares version and flags itself."""
        return self._deserialize(wasmtime.Module.deserialize, compiled)

    def deserialize_file(self, path: Path) -> WasmtimeModule:
        """`base.Engine.deserialize_file`. The file is mapped."""
        return self._deserialize(wasmtime.Module.deserialize_file, str(path))

    def _deserialize(self, function: Callable[[wasmtime.Engine, Any], wasmtime.Module], source: Any) -> WasmtimeModule:
        try:
            module = function(self.engine, source)
        except wasmtime.WasmtimeError as error:
            raise InvalidModuleError(f"wasmtime refuses the compiled code: {one_sentence(str(error))}") from None
        return WasmtimeModule(self, module)

    def _make(self) -> tuple[wasmtime.Engine, Linker, bool]:
        made = self._made
        if made is None:
            with self._lock:
                made = self._made = self._made or self._choose()
        return made

    def _choose(self) -> tuple[wasmtime.Engine, Linker, bool]:
        # In a forked child one thread compiles, and takes longer for large plugins.
        parallel = self._parallel = CompilerThreads.are_here(self.name)
        configured = partial(make_config, stack_limit=self.stack_limit, parallel=parallel)
        if self._raw:
            may_move = not (can_reserve() if self._reserve is None else self._reserve)
            if may_move:
                logger.warning(
                    "the process may not reserve 4 GiB of addresses for each plugin (ulimit -v, or a small machine):"
                    " their memories are moved when they grow, and each access to them costs a microsecond more"
                )
            try:
                engine = wasmtime.Engine(configured(memory_may_move=may_move))
                return engine, self._proven(engine, may_move), may_move
            except Exception as error:
                logger.warning(
                    "wasmtime %s does not work here as asgi-wasm knows it (%s: %s): using its public API,"
                    " which is about 50 times slower per call",
                    _version(),
                    type(error).__name__,
                    error,
                )
        engine = wasmtime.Engine(configured(memory_may_move=True))
        return engine, public.PublicLinker(engine), True

    def _proven(self, engine: wasmtime.Engine, memory_may_move: bool) -> Linker:
        from asgi_wasm.engines.wasmtime import raw

        linker = raw.RawLinker(engine, memory_may_move=memory_may_move)
        module = WasmtimeModule(self, wasmtime.Module(engine, proof.CODE))
        proof.prove(lambda functions, memory_limit: module.instantiate_by(linker, functions, SpaceLimits(memory_limit)))
        return linker


class WasmtimeModule(Compiled):
    """A module of wasmtime's (`base.Module`), whose instances are entered by the C API."""

    engine: WasmtimeEngine

    def instantiate(
        self,
        functions: Mapping[tuple[str, str], base.HostFunction],
        *,
        memory_limit: int,
        table_limit: int = base.DEFAULT_TABLE_LIMIT,
        time_limit: base.TimeLimit | None = None,
    ) -> base.Instance:
        """`base.Module.instantiate`. Raises `EngineError` too, in a thread whose stack is too small for the guest's."""
        check_stack(self.engine.stack_limit)
        return self.instantiate_by(self.engine.linker, functions, SpaceLimits(memory_limit, table_limit), time_limit)

    def instantiate_by(
        self,
        linker: Linker,
        functions: Mapping[tuple[str, str], base.HostFunction],
        limits: SpaceLimits,
        time_limit: base.TimeLimit | None = None,
    ) -> base.Instance:
        """`instantiate` with a linker that need not be the engine's."""
        return linker.instantiate(self, find_functions(self.imports, functions), limits, time_limit)

    @property
    def takes_companion(self) -> bool:
        """Only over the C API, and where memories do not move."""
        return self.engine.uses_raw_api and not self.engine.memory_may_move

    def instantiate_beside(
        self,
        functions: Mapping[tuple[str, str], base.HostFunction | NativeFunction],
        companion: Companion,
        *,
        memory_limit: int,
        table_limit: int = base.DEFAULT_TABLE_LIMIT,
        time_limit: base.TimeLimit | None = None,
    ) -> tuple[base.Instance, Beside]:
        """`CompanionModule.instantiate_beside`, in one store, over the C API."""
        from asgi_wasm.engines.wasmtime.beside import instantiate_beside
        from asgi_wasm.engines.wasmtime.raw import RawLinker

        check_stack(self.engine.stack_limit)
        linker = self.engine.linker
        assert isinstance(linker, RawLinker)
        limits = SpaceLimits(memory_limit, table_limit)
        return instantiate_beside(linker, self, functions, companion, limits, time_limit)

    def serialize(self) -> bytes:
        """Wasmtime's own format, which holds its version and flags."""
        return bytes(self.module.serialize())
