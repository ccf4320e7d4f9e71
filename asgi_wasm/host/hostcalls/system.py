"""Spec chapters "Clocks", "Timers" and "Plugin lifecycle", and what emscripten imports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host import limits
from asgi_wasm.host.abi import HostcallError, ProxyStatus
from asgi_wasm.host.effects import DeleteRoot, SetTickPeriod

if TYPE_CHECKING:
    from asgi_wasm.host.vm.contexts import Context
    from asgi_wasm.host.vm.vm import WasmVM

_VM_ITSELF = 0
UNPREFIXED = frozenset({"emscripten_notify_memory_growth", "pthread_equal"})
__all__ = [
    "done",
    "emscripten_notify_memory_growth",
    "get_current_time_nanoseconds",
    "get_status",
    "pthread_equal",
    "set_effective_context",
    "set_tick_period_milliseconds",
]


def acting_context(vm: WasmVM) -> Context:
    """The context that a hostcall acts for. Raises `HostcallError` when there is none (cpp-host: a null context)."""
    context = vm.context
    if context is None:
        raise HostcallError(ProxyStatus.INTERNAL_FAILURE)
    return context


def get_current_time_nanoseconds(vm: WasmVM, return_time: int) -> int | None:
    """Wall clock, eight bytes.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_get_current_time_nanoseconds
    Follows: Envoy `Context::getCurrentTimeNanoseconds` (`source/extensions/common/wasm/context.cc`).
    """
    vm.memory.write(return_time, vm.ports.clock.realtime().to_bytes(8, "little"))
    return None


def set_tick_period_milliseconds(vm: WasmVM, period: int) -> int | None:
    """The period of the root context, at least ``limits.tick_ms``; 0 stops its ticks.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_set_tick_period_milliseconds
    Follows: Envoy `Wasm::setTimerPeriod` (`source/extensions/common/wasm/wasm.cc`).
    """
    if 0 < period < (floor := vm.spec.limits.tick_ms):
        vm.ports.host_metrics.limit_reached(vm.plugin_name(), "tick_ms")
        period = floor
    limits.leave(vm, SetTickPeriod(acting_context(vm).root, period))
    return None


def get_status(vm: WasmVM, return_code: int, return_message_data: int, return_message_size: int) -> int | None:
    """Status of the callout whose callback runs.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_get_status
    Follows: Envoy `Context::getStatus` (`source/extensions/common/wasm/context.cc`).
    """
    code, message = acting_context(vm).root.status
    vm.memory.write_u32(return_code, code)
    vm.memory.give(message, return_message_data, return_message_size)
    return None


def set_effective_context(vm: WasmVM, context_id: int) -> int | None:
    """Let the later hostcalls of this callback act for another context of this VM. BAD_ARGUMENT for an unknown id.

    0 is the VM itself, and to cpp-host the same as none: hostcalls act for whom the callback runs again.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_set_effective_context
    Follows: proxy-wasm-cpp-host `exports::set_effective_context` (`src/exports.cc`).
    """
    context = vm.find_context(context_id)
    if context is None and context_id != _VM_ITSELF:
        return ProxyStatus.BAD_ARGUMENT
    vm.set_effective_context(context)
    return None


def done(vm: WasmVM) -> int | None:
    """End a root context whose `on_done` answered false. NOT_FOUND when it is not waiting for that.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_done
    Follows: proxy-wasm-cpp-host `WasmBase::done` (`src/wasm.cc`).
    """
    root = acting_context(vm).root
    if not root.awaiting_done:
        return ProxyStatus.NOT_FOUND
    root.awaiting_done = False
    vm.effects.append(DeleteRoot(root))
    return None


def pthread_equal(_vm: WasmVM, left: int, right: int) -> int | None:
    """1 when both are the same thread. A result, not a status.

    Spec: none; emscripten imports it.
    Follows: proxy-wasm-cpp-host `exports::pthread_equal` (`src/exports.cc`).
    """
    return int(left == right)


def emscripten_notify_memory_growth(_vm: WasmVM, _memory_index: int) -> int | None:
    """Nothing to do: memory is looked up anew where it matters.

    Spec: none; emscripten imports it.
    Follows: proxy-wasm-cpp-host `exports::emscripten_notify_memory_growth` (`src/exports.cc`).
    """
    return None
