"""Plugins as the host runs them: code, VMs, and one root context for each (plugin, conf).

Followed: proxy-wasm-cpp-host `src/wasm.cc` (`createWasm`, `getOrCreateThreadLocalPlugin`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from asgi_wasm.engines.base import Module
from asgi_wasm.errors import EngineError, PluginError, PluginLoadError, PluginStartError
from asgi_wasm.host.abi import MARKERS, AbiVersion
from asgi_wasm.host.effects import StartAgain
from asgi_wasm.host.ports import Ports
from asgi_wasm.host.recovery import Recovery
from asgi_wasm.host.resident.kit import Kit
from asgi_wasm.host.vm import lifecycle
from asgi_wasm.host.vm.contexts import RootContext, Vm, VmFailedError
from asgi_wasm.host.vm.linker import host_functions
from asgi_wasm.host.vm.vm import ForeignFunction, WasmVM
from asgi_wasm.specs import PluginSpec

_VmKey = tuple[object, ...]
# What makes a module without a marker, and a program in place of a plugin.
_NO_PLUGIN = ": is it built with a Proxy-Wasm SDK, in Rust with proxy_wasm::main! and crate-type cdylib?"
_PROGRAM = "; it is built as a program, whose _start ends: build a library (Go: -buildmode=c-shared, Rust: cdylib)"


def abi_version(module: Module) -> AbiVersion:
    """The newest version that the module's exports declare. Raises `EngineError` when there is none."""
    found = [version for marker, version in MARKERS.items() if marker in module.exports]
    if found:
        return max(found)
    others = sorted(name for name in module.exports if name.startswith("proxy_abi_version_"))
    declared = f"it declares {', '.join(others)}" if others else "it exports no proxy_abi_version_* function"
    raise EngineError(f"{declared}; this host runs ABI {', '.join(map(str, AbiVersion))}{'' if others else _NO_PLUGIN}")


def _is_program(module: Module) -> bool:
    """What AssemblyScript makes, which imports `env.abort`, is none: there `_start` is how a plugin begins."""
    aborts = any((each.module, each.name) == ("env", "abort") for each in module.imports)
    return "_start" in module.exports and "_initialize" not in module.exports and not aborts


@dataclass(frozen=True)
class Code:
    """A compiled module with what was learned of it."""

    module: Module
    version: AbiVersion
    digest: str
    # What may stand beside its instances.
    kit: Kit | None = None
    # As far as they can be told (`engines.provenance`), for whoever looks.
    language: str = ""
    sdk: str = ""

    def close(self) -> None:
        """Let go of it, for good, once every VM of it is closed. Idempotent."""
        self.module.close()
        if self.kit is not None:
            self.kit.close()


class Late(Protocol):
    """What a plugin observes of a request that is over."""

    def give_up(self) -> None:
        """End it."""
        ...


@dataclass(frozen=True)
class Filter:
    """A plugin's place in a chain: which plugin, with which configuration."""

    plugin: Plugin | BrokenPlugin
    conf: bytes

    @property
    def spec(self) -> PluginSpec:
        """The plugin's settings."""
        return self.plugin.spec

    def root(self) -> RootContext:
        """The root context to make stream contexts in. Raises `PluginError`."""
        return self.plugin.root(self.conf)

    def failed_with(self, vms: Iterable[Vm]) -> str | None:
        """Why its VM failed, if it is one of these, which a request has been in; None when it runs, or is another.

        No other takes its place in that request: as in Envoy, where a request has all its VMs from the start.
        """
        root = self.plugin.present(self.conf)
        return root.vm.failure if root is not None and any(vm is root.vm for vm in vms) else None


@dataclass
class VmPool:
    """The VMs of one worker: one per (vm_id, VM configuration, code), whatever the number of plugins in it."""

    ports: Ports
    foreign_functions: Mapping[str, ForeignFunction] = field(default_factory=dict)
    _vms: dict[_VmKey, WasmVM] = field(default_factory=dict)
    _closed: bool = False

    def vm(self, spec: PluginSpec, code: Code) -> WasmVM:
        """The live VM for this plugin; a new one when there is none or the last one failed.

        Environment, capabilities and limits are part of the key here, which they are not in Envoy: otherwise the
        first plugin's rights would become the second's. So is the mode: nothing comes of what a plugin does that
        observes, nor of its failure. Raises `EngineError` or `VmFailedError`.
        """
        if self._closed:
            raise EngineError("plugins have been stopped")
        rights = spec.env, spec.allowed_capabilities, spec.limits
        key: _VmKey = (spec.vm_id, spec.vm_conf, code.digest, *rights, spec.mode)
        vm = self._vms.get(key)
        if vm is None or vm.failure is not None:
            if vm is not None:
                vm.close()
                # As in `Plugin.root`.
                vm = None
            vm = WasmVM(code.module, code.version, spec, self.ports, host_functions, self.foreign_functions, code.kit)
            lifecycle.start_module(vm)
            self._vms[key] = vm
            self.ports.host_metrics.vm_started(vm)
        return vm

    def has_streams(self) -> bool:
        """Whether any VM has contexts of requests, or is lent their headers."""
        vms = self._vms.values()
        return any(vm.lent or any(context.root is not context for context in vm.contexts.values()) for vm in vms)

    def is_whole(self) -> bool:
        """Whether every VM may still be entered: see `engines.base.Instance.is_open`."""
        return all(vm.instance.is_open for vm in self._vms.values())

    def close(self) -> None:
        """Free every VM, for good."""
        self._closed = True
        for vm in self._vms.values():
            vm.close()
        self._vms.clear()

    def discard(self) -> None:
        """`close` when the event loop is closed, in which plugins could be told of it."""
        self._closed = True
        for vm in self._vms.values():
            vm.discard()
        self._vms.clear()


@dataclass(eq=False)
class Plugin:
    """One entry of the plugin list, loaded."""

    spec: PluginSpec
    code: Code
    pool: VmPool
    _roots: dict[bytes, RootContext] = field(default_factory=dict)
    _recoveries: dict[bytes, Recovery] = field(default_factory=dict)
    # In `mode: observe`, by verdict, how often it would have done that; and the requests that it still waits for.
    observed: dict[str, int] = field(default_factory=dict)
    late: dict[int, Late] = field(default_factory=dict)
    # When a port last refused a hostcall of a start that failed, by `Clock.monotonic`.
    _refused_at: int = 0

    def root(self, conf: bytes) -> RootContext:
        """The root context of this configuration; started now when there is none, or when its VM failed.

        Raises `PluginLoadError` or `PluginStartError`, or, when it failed a moment ago, `PluginAwayError`.
        """
        root = self._roots.get(conf)
        if root is None or root.vm.failure is not None:
            # No variable holds what is dead: the time limit may keep the frames around a start for a while.
            root = None
            root = self._roots[conf] = self._started(conf)
            root.on_failure = partial(self._failed, conf)
        return root

    def _started(self, conf: bytes) -> RootContext:
        recovery = self._recoveries.get(conf)
        if recovery is None:
            # Whoever asks first decides what becomes of a plugin that does not start (`BrokenPlugin`).
            recovery = Recovery(self.spec, self.pool.ports)
            recovery.starts()
            root = self._start(conf)
            self._recoveries[conf] = recovery
            return root
        recovery.check()
        recovery.starts()
        try:
            return self._start(conf)
        except PluginError as error:
            recovery.failed(error.problem, self._refused_at)
            raise

    def _failed(self, conf: bytes) -> None:
        """Its VM failed just now."""
        root = self._roots[conf]
        self._recoveries[conf].failed(root.vm.failure or "", root.vm.refused_at)
        if self.spec.service or root.has_queue:
            self.pool.ports.start(StartAgain(root, self._recoveries[conf], partial(self.root, conf)))

    def present(self, conf: bytes) -> RootContext | None:
        """The root context of this configuration as it is, running or not; None before its first start."""
        return self._roots.get(conf)

    def recovery(self, conf: bytes) -> Recovery | None:
        """What is known of the failures of this configuration; None before its first start."""
        return self._recoveries.get(conf)

    def _start(self, conf: bytes) -> RootContext:
        try:
            vm = self.pool.vm(self.spec, self.code)
        except EngineError as error:
            raise PluginLoadError(self.spec.name, self.spec.shown_file, str(error)) from error
        except VmFailedError as error:
            hint = _PROGRAM if _is_program(self.code.module) else ""
            raise self._start_error(f"its entry point failed: {error}{hint}") from error
        try:
            return lifecycle.start_root(vm, self.spec, conf)
        except VmFailedError as error:
            self._refused_at = vm.refused_at
            raise self._start_error(f"it trapped while starting: {error}") from error
        except lifecycle.StartRefusedError as error:
            self._refused_at = vm.refused_at
            raise self._start_error(str(error)) from error

    def _start_error(self, problem: str) -> PluginStartError:
        last_lines = self.pool.ports.log.last_lines(self.spec.name)
        if last_lines:
            problem += f"; its last words: {' | '.join(last_lines)}"
        return PluginStartError(self.spec.name, self.spec.shown_file, problem)

    @property
    def callbacks(self) -> frozenset[str]:
        """What its module exports, and its capabilities allow, of all that a host may call."""
        exports, allowed = frozenset(self.code.module.exports), self.spec.allowed_capabilities
        return exports & allowed if allowed else exports

    def stop(self) -> None:
        """End every root context."""
        for late in list(self.late.values()):
            late.give_up()
        for root in self._roots.values():
            lifecycle.shut_down_root(root)


@dataclass(frozen=True)
class BrokenPlugin:
    """Stands in the chain for a plugin that could not be loaded, so that its failure policy is applied."""

    spec: PluginSpec
    error: PluginError
    # As a plugin's.
    observed: dict[str, int] = field(default_factory=dict, compare=False)
    late: dict[int, Late] = field(default_factory=dict, compare=False)

    def root(self, conf: bytes) -> RootContext:
        """Raises the `PluginError` that loading it raised."""
        raise self.error

    def present(self, conf: bytes) -> None:
        """None: it has never been started."""

    def stop(self) -> None:
        """Nothing to stop."""
