"""From specs to running plugins: read, compile (or take from the cache), start, report."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from asgi_wasm.accelerator import AcceleratorError, StaleAcceleratorError, load
from asgi_wasm.engines import create_engine
from asgi_wasm.engines.base import Engine
from asgi_wasm.engines.cache import ModuleCache
from asgi_wasm.engines.provenance import language_of, producers_of
from asgi_wasm.errors import EngineError, PluginError, PluginLoadError
from asgi_wasm.fetching.fetcher import Fetcher
from asgi_wasm.fetching.kept import keep_within
from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.plugin import BrokenPlugin, Code, Plugin, VmPool, abi_version
from asgi_wasm.host.ports import Log, LogOrigin, Ports
from asgi_wasm.host.resident.native import Accelerator
from asgi_wasm.host.vm.vm import ForeignFunction
from asgi_wasm.limits import DEFAULT_MEMORY_LIMIT
from asgi_wasm.logs import get_logger
from asgi_wasm.specs import FailurePolicy, HostSpec, Mode, PluginSpec, RemoteFile, Wish
from asgi_wasm.worker.kits import Kits
from asgi_wasm.worker.plugin_file import read_plugin_file
from asgi_wasm.worker.routing import Router
from asgi_wasm.worker.threads import in_thread

logger = get_logger("asgi_wasm.host")

AnyPlugin = Plugin | BrokenPlugin
MakeEngine = Callable[[HostSpec], Engine]
_NOTHING = HostSpec()
# Seconds that a start waits while the caches are looked through.
_BOUND_SECONDS = 5.0


class Plugins:
    """Every plugin of one worker, running or broken, and the way to find those of a request."""

    def __init__(self, plugins: Sequence[AnyPlugin] = (), spec: HostSpec = _NOTHING, log: Log | None = None) -> None:
        self._plugins = list(plugins)
        self._spec, self._log = spec, log
        self.router = self._route()

    def __iter__(self) -> Iterator[AnyPlugin]:
        """In the order of the settings."""
        return iter(self._plugins)

    def _route(self) -> Router:
        denies = self._spec.deny_unrouted
        return Router(self._plugins, self._spec.routes, self._spec.paths, denies=denies, log=self._log)

    def replace(self, plugin: AnyPlugin, broken: BrokenPlugin) -> None:
        """Let a plugin that did not start be treated by its failure policy."""
        self._plugins[self._plugins.index(plugin)] = broken
        self.router = self._route()

    def confs(self, plugin: AnyPlugin) -> list[bytes]:
        """Each configuration that the plugin runs with, its own first."""
        if plugin.spec.service:
            return [plugin.spec.conf or b""]
        return [item.conf for item in self.router.every_filter() if item.plugin is plugin]

    def sharing_state(self) -> list[str]:
        """Names of the running plugins that import a hostcall of shared data or shared queues.

        They may never call it: what the Rust SDK builds always imports all of them.
        """
        return [
            plugin.spec.name
            for plugin in self._plugins
            if isinstance(plugin, Plugin) and any("_shared_" in item.name for item in plugin.code.module.imports)
        ]

    def first_error(self) -> PluginError | None:
        """Why the middleware should not start: the first plugin that is broken and does not fail open."""
        for plugin in self._plugins:
            if isinstance(plugin, BrokenPlugin) and not _may_be_missing(plugin.spec):
                return plugin.error
        return None

    def errors(self) -> list[PluginError]:
        """Why plugins are broken, whatever their failure policies."""
        return [plugin.error for plugin in self._plugins if isinstance(plugin, BrokenPlugin)]

    def stop(self) -> None:
        """End every plugin."""
        for plugin in self._plugins:
            plugin.stop()


def _may_be_missing(spec: PluginSpec) -> bool:
    return spec.failure_policy is FailurePolicy.FAIL_OPEN or spec.mode is Mode.OBSERVE


def engine_of(spec: HostSpec) -> Engine:
    """The engine that the settings name. Raises `EngineUnavailableError`."""
    return create_engine(spec.engine, stack_limit=spec.stack_limit, wasmer_library=spec.wasmer_library)


class Loader:
    """Loads the plugins of one worker; owns their VMs."""

    def __init__(self, ports: Ports, foreign: Mapping[str, ForeignFunction], make_engine: MakeEngine) -> None:
        self._ports = ports
        self._make_engine = make_engine
        self._pool = VmPool(ports, foreign)
        self._codes: list[Code] = []

    async def load(self, spec: HostSpec) -> Plugins:
        """Load and start every plugin. One that fails becomes a `BrokenPlugin` and an error in the log.

        Compiling is done on a thread, starting on the event loop's own, which is the one that calls plugins.
        Raises `EngineUnavailableError` and `AcceleratorError`.
        """
        engine = self._make_engine(spec)
        cache = ModuleCache(spec.cache_dir)
        accelerator = choose_accelerator(spec)
        kits = Kits(engine, cache, accelerator) if spec.resident else None
        compiler = Compiler(engine, cache, kits, Fetcher(spec.cache_dir, spec.fetch_timeout))
        loaded = [await self._load_one(compiler, plugin) for plugin in spec.plugins]
        await compiler.keep_within(spec.cache_limit)
        plugins = Plugins([plugin for plugin, _ in loaded], spec, self._ports.log)
        for plugin, report in loaded:
            if isinstance(plugin, Plugin):
                self._start(plugins, plugin, report)
        return plugins

    async def _load_one(self, compiler: Compiler, spec: PluginSpec) -> tuple[AnyPlugin, str]:
        began, engine, origin = time.monotonic(), compiler.engine, LogOrigin(spec.vm_id)
        try:
            code, cached = await compiler.compiled(spec)
        except PluginError as error:
            logger.error("%s", error, extra={"plugin": spec.name, "vm_id": spec.vm_id})
            return BrokenPlugin(spec, error), ""
        self._codes.append(code)
        if not engine.limits_memory and spec.limits.memory != DEFAULT_MEMORY_LIMIT:
            text = f"engine {engine.name} does not enforce limits.memory"
            self._ports.log.host(spec.name, LogLevel.WARN, text, origin)
        if not engine.limits_time and spec.limits.callback_ms:
            text = f"engine {engine.name} cannot interrupt a plugin, so limits.callback_ms is not kept"
            self._ports.log.host(spec.name, LogLevel.WARN, text, origin)
        milliseconds = (time.monotonic() - began) * 1000
        how = "cached" if cached else "compiled"
        made_of = f"{spec.shown_file}, sha256 {code.digest[:12]}, ABI {code.version}"
        return Plugin(spec, code, self._pool), f"{made_of}, engine {engine.name}, {how} in {milliseconds:.0f} ms"

    def _start(self, plugins: Plugins, plugin: Plugin, report: str) -> None:
        began, name = time.monotonic(), plugin.spec.name
        known = {"plugin": name, "vm_id": plugin.spec.vm_id}
        try:
            for conf in plugins.confs(plugin):
                plugin.root(conf)
        except PluginError as error:
            logger.error("%s", error, extra=known)
            plugins.replace(plugin, BrokenPlugin(plugin.spec, error))
            return
        milliseconds = (time.monotonic() - began) * 1000
        logger.info("plugin %r: %s, started in %.0f ms", name, report, milliseconds, extra=known)
        self._ports.host_metrics.plugin_started(name, plugin.code.digest)

    def has_streams(self) -> bool:
        """Whether any request has a context in one of the VMs."""
        return self._pool.has_streams()

    def is_whole(self) -> bool:
        """Whether every VM may still be entered."""
        return self._pool.is_whole()

    def close(self) -> None:
        """Free every VM, and its code: descriptors must not wait for the garbage collector."""
        self._pool.close()
        self._forget()

    def discard(self) -> None:
        """`close` when the event loop is closed, in which plugins could be told of it."""
        self._pool.discard()
        self._forget()

    def _forget(self) -> None:
        for code in self._codes:
            code.close()


@dataclass(frozen=True)
class Compiler:
    """How the plugins of one worker become code."""

    engine: Engine
    cache: ModuleCache
    kits: Kits | None
    fetcher: Fetcher

    async def compiled(self, spec: PluginSpec) -> tuple[Code, bool]:
        """`compile_plugin` on threads, in time. Raises `PluginLoadError`."""
        read = await self._read(spec)
        milliseconds = spec.limits.compile_ms
        try:
            work = partial(compile_content, self.engine, spec, read, self.cache, self.kits)
            return await in_thread(work, milliseconds / 1000)
        except asyncio.TimeoutError as error:
            problem = f"it is not compiled after {milliseconds} ms, which is limits.compile_ms"
            raise PluginLoadError(spec.name, spec.shown_file, problem) from error

    async def keep_within(self, limit: int) -> None:
        """Bound the caches: never what was compiled or fetched here. Who starts does not wait for a slow disk."""
        with suppress(asyncio.TimeoutError):
            await in_thread(partial(self.bound, limit), _BOUND_SECONDS)

    def bound(self, limit: int) -> None:
        """`keep_within`, in time that a disk may take. It blocks."""
        directory = self.cache.directory()
        if directory is not None:
            keep_within(directory, limit, self.cache.in_use | self.fetcher.in_use)

    async def _read(self, spec: PluginSpec) -> tuple[bytes, str]:
        seconds = self.fetcher.patience if isinstance(spec.file, RemoteFile) else spec.limits.compile_ms / 1000
        try:
            return await in_thread(partial(read_plugin_file, spec, self.fetcher), seconds)
        except asyncio.TimeoutError as error:
            raise PluginLoadError(spec.name, spec.shown_file, f"it is not read after {seconds:g} s") from error


@dataclass(frozen=True)
class CompileReport:
    """What came of one plugin in `compile_all`: whether its code is in the cache, and how to say so."""

    kept: bool
    sentence: str


def compile_all(spec: HostSpec) -> list[CompileReport]:
    """Compile every plugin into the cache, and start none. It blocks. Raises `EngineUnavailableError`."""
    engine = create_engine(spec.engine, wasmer_library=spec.wasmer_library)
    cache = ModuleCache(spec.cache_dir)
    compiler = Compiler(engine, cache, Kits(engine, cache), Fetcher(spec.cache_dir, spec.fetch_timeout))
    reports = [_compile_into(compiler, plugin) for plugin in spec.plugins]
    compiler.bound(spec.cache_limit)
    return reports


def _compile_into(compiler: Compiler, spec: PluginSpec) -> CompileReport:
    try:
        read = read_plugin_file(spec, compiler.fetcher)
        # The second time is from the cache, if that works.
        for what in ("was compiled before", "compiled"):
            if compile_content(compiler.engine, spec, read, compiler.cache, compiler.kits)[1]:
                return CompileReport(True, f"plugin {spec.name!r} ({spec.shown_file}): {what}")
    except PluginError as error:
        return CompileReport(False, str(error))
    return CompileReport(False, f"plugin {spec.name!r} ({spec.shown_file}): compiled, but the cache did not keep it")


def choose_accelerator(spec: HostSpec) -> Accelerator | None:
    """The accelerator, as the settings wish. Raises `AcceleratorError` where they require one that there is not."""
    if spec.accelerator is Wish.OFF or not spec.plugins:
        return None
    try:
        if not spec.resident:
            raise AcceleratorError('it enters the kernels that the setting resident = "off" leaves out')
        return load()
    except AcceleratorError as error:
        if spec.accelerator is Wish.REQUIRED:
            raise AcceleratorError(f'the setting accelerator is "required", but {error}') from error
        level = logging.WARNING if isinstance(error, StaleAcceleratorError) else logging.INFO
        logger.log(level, "the portable lane runs, without the accelerator: %s", error)
        return None


def compile_plugin(engine: Engine, spec: PluginSpec, cache: ModuleCache) -> tuple[Code, bool]:
    """The plugin's code, with nothing beside it, and whether it came from the cache.

    It blocks. Raises `PluginLoadError`.
    """
    return compile_content(engine, spec, read_plugin_file(spec), cache, None)


def compile_content(
    engine: Engine,
    spec: PluginSpec,
    read: tuple[bytes, str],
    cache: ModuleCache,
    kits: Kits | None,
) -> tuple[Code, bool]:
    """`compile_plugin` for a file that was ``read`` before (`read_plugin_file`), and what is to stand beside it."""
    content, digest = read
    try:
        module, cached = cache.load(engine, content, digest)
        kit = None if kits is None else kits.kit_for(module)
        made_of = language_of(content, producers_of(content), {f"{item.module}.{item.name}" for item in module.imports})
        return Code(module, abi_version(module), digest, kit, *made_of), cached
    except EngineError as error:
        raise PluginLoadError(spec.name, spec.shown_file, str(error)) from error
