"""Spec chapter "Properties".

Followed: Envoy `source/extensions/common/wasm/context.cc` (`getProperty`, `findValue`, `setProperty`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host.abi import ProxyStatus
from asgi_wasm.host.hostcalls.system import acting_context
from asgi_wasm.host.wire import PropertyValue, encode_value, split_path

if TYPE_CHECKING:
    from asgi_wasm.host.contexts import Context
    from asgi_wasm.host.vm import WasmVM

__all__ = ["get_property", "set_property"]

# Envoy's `core.v3.TrafficDirection`: INBOUND. A middleware only ever stands on the server's side.
_LISTENER_DIRECTION_INBOUND = 1


def get_property(
    vm: WasmVM, path_data: int, path_size: int, return_value_data: int, return_value_size: int
) -> int | None:
    """An attribute, or what some plugin of this stream set. NOT_FOUND when there is none."""
    path = vm.memory.read(path_data, path_size)
    value = find(acting_context(vm), path)
    if value is None:
        return ProxyStatus.NOT_FOUND
    vm.memory.give(encode_value(value), return_value_data, return_value_size)
    return None


def set_property(vm: WasmVM, path_data: int, path_size: int, value_data: int, value_size: int) -> int | None:
    """Keep a value for the later plugins of this stream, and for the app.

    NOT_FOUND without a stream, as in Envoy; BAD_ARGUMENT for one that was declared read-only, and is set.
    """
    path = vm.memory.read(path_data, path_size)
    value = vm.memory.read(value_data, value_size)
    context = acting_context(vm)
    if context.stream is None:
        return ProxyStatus.NOT_FOUND
    chain, key = context.stream.chain, path.removesuffix(b"\0")
    if key in chain.read_only_properties:
        return ProxyStatus.BAD_ARGUMENT
    if key not in chain.properties and context.root.declared_properties.get(path):
        chain.read_only_properties.add(key)
    chain.properties[key] = value
    return None


def find(context: Context, path: bytes) -> PropertyValue | None:
    """The value at a path: the plugin's own, then the stream's attributes, then what plugins set."""
    parts = split_path(path)
    if len(parts) == 1:
        own = _of_plugin(context, parts[0])
        if own is not None:
            return own
    if context.stream is None:
        return None
    chain = context.stream.chain
    value = chain.attributes.get(parts)
    return chain.properties.get(path.removesuffix(b"\0")) if value is None else value


def _of_plugin(context: Context, name: bytes) -> PropertyValue | None:
    """These answer at once, also in the first `on_context_create`, where the C++ SDK aborts without them."""
    spec = context.root.spec
    if name == b"plugin_root_id":
        return spec.root_id
    if name == b"plugin_name":
        return spec.name
    if name == b"plugin_vm_id":
        return spec.vm_id
    if name == b"listener_direction":
        return _LISTENER_DIRECTION_INBOUND
    return None
