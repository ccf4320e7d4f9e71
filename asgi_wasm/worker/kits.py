"""What stands beside plugins in WebAssembly, compiled when the first plugin can have it."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from asgi_wasm.engines.base import Engine, Module
from asgi_wasm.engines.cache import ModuleCache
from asgi_wasm.engines.companion import CompanionModule
from asgi_wasm.engines.watchdog import Watchdog
from asgi_wasm.host.resident.kit import Kit
from asgi_wasm.host.resident.native import Accelerator


class Kits:
    """The modules that stand beside plugins, of one engine: compiled once, for the first plugin that can have them.

    ``accelerator`` is to enter them, and then ticks for the watchdog as well.
    """

    def __init__(self, engine: Engine, cache: ModuleCache, accelerator: Accelerator | None = None) -> None:
        self._engine = engine
        self._cache = cache
        self._accelerator = accelerator
        self._lock = Lock()
        self._kit: Kit | None = None

    def kit_for(self, module: Module) -> Kit | None:
        """None where the engine cannot put anything beside this one. It blocks. Raises `EngineError`."""
        if not (isinstance(module, CompanionModule) and module.takes_companion):
            return None
        with self._lock:
            if self._kit is None:
                if self._accelerator is not None:
                    Watchdog.of_process().tick_by(self._accelerator.Ticker)
                self._kit = Kit.load(self._compiled, self._accelerator)
            return self._kit

    def _compiled(self, path: Path) -> Module:
        return self._cache.load(self._engine, path.read_bytes())[0]
