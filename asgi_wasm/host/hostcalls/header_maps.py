"""Spec chapter "HTTP fields": headers, trailers and gRPC metadata, of streams and of callouts.

Followed: Envoy `source/extensions/common/wasm/context.cc` (`getMap`, `getConstMap`). A map that is not there now:
reading one value (except in `on_log`), changing anything and asking the size is BAD_ARGUMENT; reading all pairs gives
none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host import limits
from asgi_wasm.host.abi import AbiVersion, HostcallError, MapType, ProxyStatus
from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.host.hostcalls.system import acting_context

if TYPE_CHECKING:
    from asgi_wasm.host.streams.header_map import HeaderMap
    from asgi_wasm.host.vm.vm import WasmVM

__all__ = [
    "add_header_map_value",
    "get_header_map_pairs",
    "get_header_map_size",
    "get_header_map_value",
    "remove_header_map_value",
    "replace_header_map_value",
    "set_header_map_pairs",
]

_LAST_STREAM_MAP = MapType.HTTP_RESPONSE_TRAILERS
_LAST_MAP = MapType.HTTP_CALL_RESPONSE_TRAILERS


def _check(map_type: int) -> None:
    """Raises `HostcallError` BAD_ARGUMENT for an unknown type. cpp-host looks at it before it reads memory."""
    if map_type > _LAST_MAP:
        raise HostcallError(ProxyStatus.BAD_ARGUMENT)


def _readable(vm: WasmVM, map_type: int) -> HeaderMap | None:
    context = acting_context(vm)
    if map_type > _LAST_STREAM_MAP:
        return context.root.maps.get(map_type)
    return None if context.stream is None else context.stream.readable(map_type)


def _logging(vm: WasmVM) -> bool:
    stream = acting_context(vm).stream
    return stream is not None and stream.logging


def _writable(vm: WasmVM, map_type: int) -> HeaderMap:
    """Raises `HostcallError` BAD_ARGUMENT for a map that may not be changed now."""
    stream = acting_context(vm).stream
    found = stream.writable(map_type) if stream is not None and map_type <= _LAST_STREAM_MAP else None
    if found is None:
        raise HostcallError(ProxyStatus.BAD_ARGUMENT)
    return found


def get_header_map_value(
    vm: WasmVM, map_type: int, key_data: int, key_size: int, return_value_data: int, return_value_size: int
) -> int | None:
    """The first value of a name. Missing: NOT_FOUND, but in 0.1.0 OK and empty.

    In `on_log` a map that never was is as good as empty, elsewhere one that is not there is BAD_ARGUMENT.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_get_header_map_value
    Follows: Envoy `Context::getHeaderMapValue` (`source/extensions/common/wasm/context.cc`).
    """
    _check(map_type)
    key = limits.read_name(vm, key_data, key_size, ProxyStatus.NOT_FOUND)
    headers = _readable(vm, map_type)
    if headers is None and not _logging(vm):
        return ProxyStatus.BAD_ARGUMENT
    value = None if headers is None else headers.get(key)
    if value is None:
        if vm.version > AbiVersion.V0_1_0:
            return ProxyStatus.NOT_FOUND
        value = b""
    vm.memory.give(value, return_value_data, return_value_size)
    return None


def add_header_map_value(
    vm: WasmVM, map_type: int, key_data: int, key_size: int, value_data: int, value_size: int
) -> int | None:
    """Append, keeping the values that are there.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_add_header_map_value
    Follows: Envoy `Context::addHeaderMapValue` (`source/extensions/common/wasm/context.cc`).
    """
    _check(map_type)
    key, value = limits.read_name(vm, key_data, key_size), limits.read(vm, "header_bytes", value_data, value_size)
    headers = _writable(vm, map_type)
    limits.check_headers(vm, headers, key, value, replaces=False)
    headers.add(key, value)
    return None


def replace_header_map_value(
    vm: WasmVM, map_type: int, key_data: int, key_size: int, value_data: int, value_size: int
) -> int | None:
    """Replace every value; makes the header when it is missing.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_replace_header_map_value
    Follows: Envoy `Context::replaceHeaderMapValue` (`source/extensions/common/wasm/context.cc`).
    """
    _check(map_type)
    key, value = limits.read_name(vm, key_data, key_size), limits.read(vm, "header_bytes", value_data, value_size)
    headers = _writable(vm, map_type)
    limits.check_headers(vm, headers, key, value, replaces=True)
    headers.replace(key, value)
    return None


def remove_header_map_value(vm: WasmVM, map_type: int, key_data: int, key_size: int) -> int | None:
    """Remove every value. OK when there was none.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_remove_header_map_value
    Follows: Envoy `Context::removeHeaderMapValue` (`source/extensions/common/wasm/context.cc`).
    """
    _check(map_type)
    key = limits.read_name(vm, key_data, key_size)
    _writable(vm, map_type).remove(key)
    return None


def get_header_map_pairs(vm: WasmVM, map_type: int, return_pairs_data: int, return_pairs_size: int) -> int | None:
    """All pairs in order; (0, 0) for none and for a map that is not there.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_get_header_map_pairs
    Follows: Envoy `Context::getHeaderMapPairs` (`source/extensions/common/wasm/context.cc`).
    """
    _check(map_type)
    headers = _readable(vm, map_type)
    vm.memory.give(b"" if headers is None else encode_pairs(headers.pairs), return_pairs_data, return_pairs_size)
    return None


def set_header_map_pairs(vm: WasmVM, map_type: int, pairs_data: int, pairs_size: int) -> int | None:
    """Replace everything. Malformed pairs are read as none, and then clear the map, as in Envoy.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_set_header_map_pairs
    Follows: Envoy `Context::setHeaderMapPairs` (`source/extensions/common/wasm/context.cc`).
    """
    _check(map_type)
    pairs = limits.read_pairs(vm, pairs_data, pairs_size)
    headers = _writable(vm, map_type)
    limits.check_all_headers(vm, pairs)
    headers.replace_all(pairs)
    return None


def get_header_map_size(vm: WasmVM, map_type: int, return_size: int) -> int | None:
    """The bytes of all names and values: Envoy's answer. (The spec: of the serialized pairs.)

    Envoy asks for the map as if to change it: so BAD_ARGUMENT for one that may only be read.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_get_header_map_size
    Follows: Envoy `Context::getHeaderMapSize` (`source/extensions/common/wasm/context.cc`).
    """
    _check(map_type)
    vm.memory.write_u32(return_size, _writable(vm, map_type).byte_size)
    return None
