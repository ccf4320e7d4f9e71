"""The middleware, with services of a test's own, and with plugins that are guests in Python."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from asgi_wasm.asgi.types import ASGIApp
from asgi_wasm.engines.base import Engine, Module
from asgi_wasm.engines.binary import HEAD
from asgi_wasm.engines.null import PREFIX, NullEngine
from asgi_wasm.errors import InvalidModuleError
from asgi_wasm.middleware import WasmMiddleware
from asgi_wasm.services.stores.memory import MemoryState
from asgi_wasm.specs import HostSpec
from asgi_wasm.testing.guests.guests import Guest
from asgi_wasm.worker.services import SYSTEM, Services


class GuestEngine:
    """`engines.base.Engine`: guests by their names, and every other plugin by the engine ``beside`` them."""

    def __init__(self, guests: Mapping[str, Guest], beside: Engine) -> None:
        self._guests = guests
        self._beside = beside
        self.name, self.fingerprint = beside.name, beside.fingerprint
        self.limits_time, self.limits_memory = beside.limits_time, beside.limits_memory

    def compile(self, code: bytes) -> Module:
        """Make a guest's module by its name; else as the engine beside it does."""
        name = code.removeprefix(HEAD)
        return self._guest(name) if name.startswith(PREFIX) else self._beside.compile(code)

    def deserialize(self, compiled: bytes) -> Module:
        """The same of what a cache has kept."""
        return self._guest(compiled) if compiled.startswith(PREFIX) else self._beside.deserialize(compiled)

    def deserialize_file(self, path: Path) -> Module:
        """The same of a cache's file."""
        with path.open("rb") as file:
            is_guest = file.read(len(PREFIX)) == PREFIX
        return self._guest(path.read_bytes()) if is_guest else self._beside.deserialize_file(path)

    def _guest(self, code: bytes) -> Module:
        name = code.removeprefix(PREFIX).decode(errors="replace")
        if name not in self._guests:
            raise InvalidModuleError(f"no guest is named {name!r}")
        return self._guests[name].module(name)


class TestMiddleware(WasmMiddleware):
    """A `WasmMiddleware` for tests. The ``file`` of a plugin, in settings that are a mapping, may be a `Guest`.

    A guest is entered as any plugin is, by a file that stands for it. The engine of the settings runs the others.
    """

    # Not for pytest to collect.
    __test__ = False

    def __init__(
        self,
        app: ASGIApp,
        services: Services = SYSTEM,
        *,
        settings: Any = None,
        guest_dir: Path | None = None,
        **options: Any,
    ) -> None:
        """``options`` are those of `WasmMiddleware`, ``services`` what plugins ask for.

        Files that stand for guests are put into ``guest_dir``, or into a directory that ends with the middleware.
        """
        self._guest_files: dict[Path, Guest] = {}
        self._guest_dir = guest_dir
        if isinstance(settings, Mapping) and "plugins" in settings:
            settings = {**settings, "plugins": self._entries(settings["plugins"])}
        self._services = services
        if self._guest_files:
            # Not a method: a worker must not keep the middleware alive.
            self._services = replace(services, engine=partial(_engine_with, self._guest_files, services.engine))
        super().__init__(app, settings=settings, **options)

    @property
    def guests(self) -> list[Guest]:
        """Those of the settings, each once."""
        return list(self._guest_files.values())

    @property
    def hears_others(self) -> bool:
        """Whether plugins may hear of what no test does: from foreign functions, which may wait for anything, or by
        a store that others have, too.
        """
        return bool(self._foreign_functions) or self.spec.store.scheme != "memory"

    @property
    def memory(self) -> MemoryState:
        """Shared data, queues and metrics."""
        return self._workers.memory

    @property
    def spec(self) -> HostSpec:
        """What the settings come to. Raises `SettingsError`."""
        return self._configure()[0]

    def _entries(self, plugins: Any) -> Any:
        if isinstance(plugins, Mapping):
            return {name: self._entry(each, name) for name, each in plugins.items()}
        return [self._entry(each) for each in plugins] if isinstance(plugins, (list, tuple)) else plugins

    def _entry(self, plugin: Any, name: str = "") -> Any:
        """A plugin's settings, with a file in place of a guest."""
        if not (isinstance(plugin, Mapping) and isinstance(plugin.get("file"), Guest)):
            return plugin
        guest: Guest = plugin["file"]
        file = next((file for file, known in self._guest_files.items() if known is guest), None)
        if file is None:
            file = self._directory() / f"{plugin.get('name', name)}.wasm"
            # A plugin's file must begin like a module.
            file.write_bytes(HEAD + PREFIX + file.stem.encode())
            self._guest_files[file] = guest
        return {**plugin, "file": str(file)}

    def _directory(self) -> Path:
        if self._guest_dir is None:
            self._guest_dir = Path(tempfile.mkdtemp(prefix="asgi-wasm-guests-"))
            weakref.finalize(self, shutil.rmtree, self._guest_dir, ignore_errors=True)
        return self._guest_dir


def _engine_with(guests: Mapping[Path, Guest], make: Callable[[HostSpec], Engine], spec: HostSpec) -> Engine:
    beside = NullEngine({}) if {plugin.file for plugin in spec.plugins} <= guests.keys() else make(spec)
    return GuestEngine({file.stem: guest for file, guest in guests.items()}, beside)
