"""Spec chapter "Properties".

Followed: Envoy `source/extensions/common/wasm/context.cc` (`getProperty`, `findValue`, `setProperty`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from asgi_wasm.host import limits
from asgi_wasm.host.abi import HostcallError, MapType, ProxyStatus
from asgi_wasm.host.codecs.wire import PropertyValue, encode_value, split_path
from asgi_wasm.host.hostcalls.system import acting_context

if TYPE_CHECKING:
    from asgi_wasm.host.vm.contexts import Context, StreamContext
    from asgi_wasm.host.vm.vm import WasmVM

__all__ = ["get_property", "set_property"]

# Envoy's `core.v3.TrafficDirection`: INBOUND. A middleware only ever stands on the server's side.
_LISTENER_DIRECTION_INBOUND = 1
_STARTS = frozenset(b"request response source destination connection upstream xds filter_state".split())
_STATE_PREFIX = b"wasm."
_HEADER_ATTRIBUTES: dict[tuple[bytes, ...], MapType] = {
    **{
        (b"request", name): MapType.HTTP_REQUEST_HEADERS
        for name in b"path url_path host scheme method headers referer useragent id query".split()
    },
    (b"response", b"headers"): MapType.HTTP_RESPONSE_HEADERS,
}


def get_property(
    vm: WasmVM, path_data: int, path_size: int, return_value_data: int, return_value_size: int
) -> int | None:
    """An attribute, or what some plugin of this stream set. NOT_FOUND when there is none.

    SERIALIZATION_FAILURE for the start of a path, as ``request``: it has no bytes of its own.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_get_property
    Follows: Envoy `Context::getProperty` (`source/extensions/common/wasm/context.cc`).
    """
    path = limits.read_name(vm, path_data, path_size, ProxyStatus.NOT_FOUND)
    value = find(acting_context(vm), path)
    if value is None:
        return ProxyStatus.NOT_FOUND
    vm.memory.give(encode_value(value), return_value_data, return_value_size)
    return None


def set_property(vm: WasmVM, path_data: int, path_size: int, value_data: int, value_size: int) -> int | None:
    """Keep a value for the later plugins of this stream, and for the app.

    NOT_FOUND without a stream, as in Envoy; BAD_ARGUMENT for one that was declared read-only, and is set.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_set_property
    Follows: Envoy `Context::setProperty` (`source/extensions/common/wasm/context.cc`).
    """
    path = limits.read_name(vm, path_data, path_size)
    value = limits.read(vm, "property_bytes", value_data, value_size)
    context = acting_context(vm)
    if context.stream is None:
        return ProxyStatus.NOT_FOUND
    chain = context.stream.chain
    if path in chain.read_only_properties:
        return ProxyStatus.BAD_ARGUMENT
    is_new = path not in chain.properties
    limits.keep_property(vm, chain, path, value)
    if is_new and context.root.declared_properties.get(path):
        chain.read_only_properties.add(path)
    return None


def find(context: Context, path: bytes) -> PropertyValue | None:
    """The value at a path: the plugin's own, then the stream's attributes, then what plugins set.

    What plugins set has one part, which Envoy keeps in its filter state under ``wasm.``.
    """
    parts = split_path(path)
    if parts == (b"",):
        raise HostcallError(ProxyStatus.SERIALIZATION_FAILURE)
    if len(parts) == 1:
        own = _of_plugin(context, parts[0])
        if own is not None:
            return own
    if context.stream is None:
        return None
    properties = context.stream.chain.properties
    if len(parts) == 1:
        if parts[0] in _STARTS:
            raise HostcallError(ProxyStatus.SERIALIZATION_FAILURE)
        value = context.stream.chain.attributes.get(parts)
        return properties.get(parts[0]) if value is None else value
    if parts[0] == b"filter_state":
        return _of_filter_state(properties, parts[1]) if len(parts) == 2 else None
    return _of_stream(context.stream, parts)


def _of_filter_state(properties: Mapping[bytes, bytes], key: bytes) -> bytes | None:
    if key.startswith(_STATE_PREFIX):
        return properties.get(key.removeprefix(_STATE_PREFIX))
    # What the foreign function `set_envoy_filter_state` keeps.
    return properties.get(b"filter_state\0" + key)


def _of_stream(stream: StreamContext, parts: tuple[bytes, ...]) -> PropertyValue | None:
    """Envoy's attributes read the filter's own header maps: what is told by headers comes and goes with those."""
    map_type = _HEADER_ATTRIBUTES.get(parts[:2])
    if map_type is not None and stream.readable(map_type) is None:
        return {} if parts[1:] == (b"headers",) else None
    if parts == (b"request", b"size"):
        headers = stream.readable(MapType.HTTP_REQUEST_HEADERS)
        length = None if headers is None else headers.get(b"content-length")
        if length is not None and length.isdigit():
            return int(length)
    return stream.chain.attributes.get(parts)


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
