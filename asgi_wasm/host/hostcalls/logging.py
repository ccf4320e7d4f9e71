"""Spec chapter "Logging"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host import limits
from asgi_wasm.host.abi import LogLevel, ProxyStatus

if TYPE_CHECKING:
    from asgi_wasm.host.vm.vm import WasmVM

__all__ = ["get_log_level", "log"]


def log(vm: WasmVM, level: int, message_data: int, message_size: int) -> int | None:
    """Write one line under the plugin's name. BAD_ARGUMENT for an unknown level. Allowed at any time.

    A line over ``limits.log_line_bytes`` is cut, and says so.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_log
    Follows: Envoy `Context::log` (`source/extensions/common/wasm/context.cc`).
    """
    if level > LogLevel.CRITICAL:
        return ProxyStatus.BAD_ARGUMENT
    # The whole range is looked at, so that one which leaves the memory is told; what would be cut is not copied.
    limits.check_range(vm, message_data, message_size)
    if level < vm.log_lines.lowest():
        # By far the most lines of a plugin that tells of all it does.
        return None
    message = vm.memory.read(message_data, min(message_size, vm.spec.limits.log_line_bytes))
    vm.log_lines.write(vm.plugin_name(), LogLevel(level), message, message_size)
    return None


def get_log_level(vm: WasmVM, return_level: int) -> int | None:
    """The level of the plugin's logger. Since 0.2.1.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_get_log_level
    Follows: Envoy `Context::getLogLevel` (`source/extensions/common/wasm/context.cc`).
    """
    vm.memory.write_u32(return_level, vm.log_lines.lowest())
    return None
