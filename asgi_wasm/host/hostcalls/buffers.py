"""Spec chapter "Buffers": bodies, configurations and what callouts brought.

Followed: Envoy `source/extensions/common/wasm/context.cc` (`getBuffer`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host import limits
from asgi_wasm.host.abi import BufferType, HostcallError, ProxyStatus
from asgi_wasm.host.hostcalls.system import acting_context
from asgi_wasm.host.streams.buffer import Buffer

if TYPE_CHECKING:
    from asgi_wasm.host.vm.vm import WasmVM

__all__ = ["get_buffer_bytes", "get_buffer_status", "get_configuration", "set_buffer_bytes"]

# A body, or what a gRPC or foreign function's callback brings, outside its callback: there, empty, not to be changed.
_NO_BODY = Buffer(writable=False)


def _buffer(vm: WasmVM, buffer_type: int) -> Buffer:
    """Raises `HostcallError`: BAD_ARGUMENT for an unknown type, NOT_FOUND for a buffer that is not there now."""
    if buffer_type > BufferType.CALL_DATA:
        raise HostcallError(ProxyStatus.BAD_ARGUMENT)
    context = acting_context(vm)
    if buffer_type <= BufferType.HTTP_RESPONSE_BODY:
        body = context.body_shown(buffer_type)
        return _NO_BODY if body is None else body
    if buffer_type <= BufferType.UPSTREAM_DATA:
        # TCP streams: not hosted; empty as they are in Envoy outside their callbacks.
        return _NO_BODY
    root = context.root
    if buffer_type == BufferType.VM_CONFIGURATION:
        return Buffer(root.spec.vm_conf, writable=False)
    if buffer_type == BufferType.PLUGIN_CONFIGURATION and root.configuring:
        return Buffer(root.conf, writable=False)
    found = root.buffers.get(buffer_type)
    if found is not None:
        return found
    if buffer_type in (BufferType.GRPC_RECEIVE_BUFFER, BufferType.CALL_DATA):
        return _NO_BODY
    raise HostcallError(ProxyStatus.NOT_FOUND)


def get_buffer_bytes(
    vm: WasmVM, buffer_type: int, start: int, max_size: int, return_data: int, return_size: int
) -> int | None:
    """At most ``max_size`` bytes from ``start``; OK and (0, 0) when ``start`` is beyond the end.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_get_buffer_bytes
    Follows: proxy-wasm-cpp-host `exports::get_buffer_bytes` (`src/exports.cc`).
    """
    vm.memory.give(_buffer(vm, buffer_type).get(start, max_size), return_data, return_size)
    return None


def get_buffer_status(vm: WasmVM, buffer_type: int, return_size: int, return_flags: int) -> int | None:
    """The buffer's size; the flags are always 0.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_get_buffer_status
    Follows: proxy-wasm-cpp-host `exports::get_buffer_status` (`src/exports.cc`).
    """
    size = len(_buffer(vm, buffer_type))
    vm.memory.write_u32(return_size, size)
    vm.memory.write_u32(return_flags, 0)
    return None


def set_buffer_bytes(
    vm: WasmVM, buffer_type: int, start: int, size: int, value_data: int, value_size: int
) -> int | None:
    """Prepend, append or replace; see `Buffer.set` for which.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_set_buffer_bytes
    Follows: Envoy `Buffer::copyFrom` (`source/extensions/common/wasm/context.cc`).
    """
    buffer = _buffer(vm, buffer_type)
    buffer.set(start, size, limits.read_body(vm, buffer, 0 if start else size, value_data, value_size))
    return None


def get_configuration(vm: WasmVM, return_data: int, return_size: int) -> int | None:
    """0.1.0 only: the plugin's configuration during `on_configure`, otherwise the VM's.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.1.0/README.md#proxy_get_configuration
    Follows: Envoy `Context::getConfiguration` (`source/extensions/common/wasm/context.cc`).
    """
    root = acting_context(vm).root
    vm.memory.give(root.conf if root.configuring else root.spec.vm_conf, return_data, return_size)
    return None
