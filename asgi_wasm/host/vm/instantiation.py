"""A module's instance under its plugin's limits: alone, or with the kernel beside it where nobody could tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from asgi_wasm.engines.base import HostFunction, Instance, Module
from asgi_wasm.engines.companion import CompanionModule, NativeFunction
from asgi_wasm.host.abi import AbiVersion
from asgi_wasm.host.resident.kit import FILL, GIVE_BODY, TAKE_BODY, Kit
from asgi_wasm.host.resident.layout import ARENA, MAX_PAIRS
from asgi_wasm.host.resident.lent import Neighbour
from asgi_wasm.host.resident.resident import Resident
from asgi_wasm.host.vm.callbacks import is_sound
from asgi_wasm.host.vm.slowness import time_limit

if TYPE_CHECKING:
    from asgi_wasm.host.ports import Ports
    from asgi_wasm.host.vm.log_lines import LogLines
    from asgi_wasm.host.vm.memory import GuestMemory
    from asgi_wasm.specs import PluginSpec

# Of the kernel: two pages, under the same limit as the plugin's memory.
_LEAST_MEMORY = 2 * 65536
_CLOCK = "proxy_get_current_time_nanoseconds"

Functions = Mapping[tuple[str, str], HostFunction]


class Owner(Neighbour, Protocol):
    """The VM whose instance it is to be (`host.vm.vm.WasmVM`)."""

    spec: PluginSpec
    version: AbiVersion
    ports: Ports
    memory: GuestMemory
    log_lines: LogLines
    resident: Resident | None

    @property
    def is_traced(self) -> bool:
        """Whether somebody is told of each of its calls."""
        ...

    def plugin_name(self) -> str:
        """Whose callback runs."""
        ...


def instantiate(vm: Owner, module: Module, functions: Functions, kit: Kit | None) -> tuple[Instance, Resident | None]:
    """The instance, and what stands beside it if ``kit`` is to. Raises `EngineError`."""
    limits = vm.spec.limits
    limit = time_limit(limits, vm.ports, vm.plugin_name, vm.log_lines.origin)
    space = {"memory_limit": limits.memory, "table_limit": limits.table_elements}
    if (
        kit is None
        or not is_sound(module, vm.version)
        or not isinstance(module, CompanionModule)
        or not _may_lend(vm, module)
    ):
        return module.instantiate(functions, **space, time_limit=limit), None
    native = kit.native_kernel()
    fill, give_body, take_body = _for_kernel(vm)
    own: dict[tuple[str, str], HostFunction | NativeFunction] = {
        FILL: fill if native is None else NativeFunction(native.fill, native.env, native),
        GIVE_BODY: give_body if native is None else NativeFunction(native.give_body, native.env, native),
        TAKE_BODY: take_body if native is None else NativeFunction(native.take_body, native.env, native),
    }
    instance, beside = module.instantiate_beside({**functions, **own}, kit, **space, time_limit=limit)
    resident = Resident(vm, beside, vm.ports.clock.realtime, limits.body_bytes, native)
    resident.may_want_time = any(each.name == _CLOCK for each in module.imports)
    return instance, resident


def _for_kernel(vm: Owner) -> tuple[HostFunction, HostFunction, HostFunction]:
    """What a kernel asks of Python, which is nothing before the VM has it: header maps, and pieces of bodies."""

    def fill(slot: int) -> int:
        return 0 if vm.resident is None else vm.resident.fill(slot)

    def give_body(at: int, start: int, size: int) -> None:
        piece = b"" if vm.resident is None else vm.resident.piece
        vm.memory.write(at, piece if size == len(piece) else piece[start : start + size])

    def take_body(at: int, start: int, size: int, value_size: int) -> int:
        resident = vm.resident
        if resident is None:
            return 0
        piece = resident.piece
        if len(piece) - size + value_size > max(len(piece), vm.spec.limits.body_bytes):
            return 0
        value = vm.memory.read(at, value_size)
        resident.piece = piece + value if start else value + piece[size:]
        return 1

    return fill, give_body, take_body


def _may_lend(vm: Owner, module: CompanionModule) -> bool:
    """Whether all that a kernel answers would be answered by the host as well, and unseen."""
    limits = vm.spec.limits
    return (
        module.takes_companion
        and vm.version > AbiVersion.V0_1_0
        and not vm.spec.allowed_capabilities
        and not vm.is_traced
        and not vm.ports.host_metrics.enabled
        and limits.memory >= _LEAST_MEMORY
        # The kernel keeps no limit but its own size.
        and limits.header_count >= MAX_PAIRS
        and min(limits.header_bytes, limits.local_reply_bytes) >= ARENA
    )
