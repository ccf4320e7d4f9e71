"""From a module's imports to host functions: the one wrapper around every hostcall.

Followed: proxy-wasm-cpp-host `src/wasm.cc` (`registerCallbacks`) and `src/exports.cc`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from asgi_wasm.engines.base import FuncType, HostFunction, Import, Module
from asgi_wasm.errors import LinkError, MemoryAccessError, TrapError
from asgi_wasm.host.abi import HostcallError, LogLevel, ProxyStatus
from asgi_wasm.host.hostcalls import IMPLEMENTATIONS
from asgi_wasm.host.ports import LimitReachedError, PortError
from asgi_wasm.host.resident.layout import RESTRICTED
from asgi_wasm.host.signatures import GRPC_METADATA_AT, SHORT_GRPC_TYPES, Signature, hostcalls
from asgi_wasm.host.wasi import preview1 as wasi

if TYPE_CHECKING:
    from asgi_wasm.host.vm.vm import WasmVM

WASI_MODULES = frozenset({"wasi_snapshot_preview1", "wasi_unstable"})


class GuestAbortError(Exception):
    """Raised by a host function to end the guest's call in a trap, on purpose."""


def host_functions(vm: WasmVM, module: Module) -> dict[tuple[str, str], HostFunction]:
    """A host function for each function that ``module`` imports.

    Raises `LinkError` for what is imported with another type than the ABI's or WASI's. Imports that nobody
    knows (vendor extensions) get a stub that answers UNIMPLEMENTED once called, and a warning now.
    """
    known = {row.name: row for row in hostcalls(vm.version)}
    return {
        (item.module, item.name): _traced(vm, item, _host_function(vm, item, item.type, known), known)
        for item in module.imports
        if item.type is not None
    }


def _traced(vm: WasmVM, item: Import, function: HostFunction, known: dict[str, Signature]) -> HostFunction:
    if vm.trace is None:
        return function
    row = wasi.SIGNATURES.get(item.name) if item.module in WASI_MODULES else known.get(item.name)
    return vm.trace.hostcall(item.name, row, function)


def _host_function(vm: WasmVM, item: Import, type_: FuncType, known: dict[str, Signature]) -> HostFunction:
    if item.module in WASI_MODULES:
        return _wasi_function(vm, item.name, type_)
    if item.module == "env" and item.name == "abort":
        return _abort(vm)
    row = known.get(item.name) if item.module == "env" else None
    if row is None:
        return _unknown(vm, item, type_)
    if type_ not in (row.type, SHORT_GRPC_TYPES.get(row.name)):
        raise LinkError(f"it imports {item.name} with type {type_}, but ABI {vm.version} has {row.type}")
    allowed = vm.spec.allowed_capabilities
    if allowed and row.name not in allowed:
        # cpp-host `_export_stub`: a restricted hostcall fails, it does not trap.
        return lambda *_: int(ProxyStatus.INTERNAL_FAILURE)
    function = _hostcall(vm, row)
    return function if type_ == row.type else _without_metadata(function)


def _without_metadata(function: HostFunction) -> HostFunction:
    """The older shape of a gRPC hostcall: no initial metadata."""
    at = GRPC_METADATA_AT
    return lambda *args: function(*args[:at], 0, 0, *args[at:])


def _hostcall(vm: WasmVM, row: Signature) -> HostFunction:
    implementation: Callable[..., int | None] = IMPLEMENTATIONS[row.name]
    has_result = row.result is not None

    def hostcall(*args: int) -> int | None:
        if vm.flags[RESTRICTED] and not row.anytime:
            raise GuestAbortError(f"restricted_callback: {row.name} was called while the module starts or allocates")
        try:
            status = implementation(vm, *args)
        except HostcallError as error:
            status = error.status
        except MemoryAccessError:
            status = ProxyStatus.INVALID_MEMORY_ACCESS
        except LimitReachedError as error:
            vm.notices.limit_reached(vm.plugin_name(), error)
            status = ProxyStatus.INTERNAL_FAILURE
        except PortError:
            vm.refused_at = vm.ports.clock.monotonic()
            status = ProxyStatus.INTERNAL_FAILURE
        except (TrapError, GuestAbortError):
            # The allocator trapped inside us: the outer call must end too.
            raise
        except Exception as error:
            _report(vm, row.name, error)
            status = ProxyStatus.INTERNAL_FAILURE
        return (status or 0) if has_result else None

    return hostcall


def _report(vm: WasmVM, name: str, error: Exception) -> None:
    """A bug of ours, or of a port or foreign function: the guest gets a number, the log gets the rest."""
    vm.log_lines.host(LogLevel.ERROR, f"{name} failed: {type(error).__name__}: {error}")


def _wasi_function(vm: WasmVM, name: str, type_: FuncType) -> HostFunction:
    allowed = vm.spec.allowed_capabilities
    if allowed and name not in allowed and name != "proc_exit":
        return _stub(wasi.ENOTCAPABLE, type_)
    implementation = wasi.FUNCTIONS.get(name)
    if implementation is None:
        vm.log_lines.host(LogLevel.WARN, f"imports the WASI function {name:.200}, which no Proxy-Wasm host has")
        return _stub(wasi.ENOSYS, type_)
    row = wasi.SIGNATURES[name]
    if type_ not in (row.type, wasi.ENVOY_TYPES.get(name)):
        raise LinkError(f"it imports {name} with type {type_}, but WASI has {row.type}")

    def function(*args: int) -> int | None:
        try:
            errno = implementation(vm, *args)
        except MemoryAccessError:
            errno = wasi.EFAULT
        except Exception as error:
            _report(vm, name, error)
            errno = wasi.EIO
        return errno if row.result else None

    return function


def _abort(vm: WasmVM) -> HostFunction:
    """AssemblyScript's `abort(message, file, line, column)`: its strings are UTF-16 with the size before them."""

    def text(address: int) -> str:
        if address < 4:
            return "unknown"
        size = int.from_bytes(vm.memory.read(address - 4, 4), "little")
        return vm.memory.read(address, min(size, 4096)).decode("utf-16-le", "replace")

    def abort(message: int = 0, file: int = 0, line: int = 0, column: int = 0) -> None:
        try:
            reason = f"abort: {text(message)} at {text(file)}:{line}:{column}"
        except MemoryAccessError:
            reason = "abort"
        raise GuestAbortError(reason)

    return abort


def _unknown(vm: WasmVM, item: Import, type_: FuncType) -> HostFunction:
    vm.log_lines.host(
        LogLevel.WARN,
        f"imports {item.module:.200}.{item.name:.200} {item.type}, which ABI {vm.version} does not have: "
        "calls to it will answer UNIMPLEMENTED",
    )
    return _stub(ProxyStatus.UNIMPLEMENTED, type_)


def _stub(answer: int, type_: FuncType) -> HostFunction:
    value = int(answer) if type_.results in (("i32",), ("i64",)) else 0
    has_result = bool(type_.results)
    return lambda *_: value if has_result else None
