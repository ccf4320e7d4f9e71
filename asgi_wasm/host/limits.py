"""What a plugin may make the host keep or do: each check of `specs.PluginLimits` that a hostcall makes.

Neither the spec nor Envoy bounds most of these. A check raises `LimitReachedError` before anything is done; the
linker counts it, says it once a VM, and answers INTERNAL_FAILURE. An SDK that takes no such status aborts its VM, and
the request gets the failure policy: the last resort, and the plugin's own choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from asgi_wasm.host.ports import LimitReachedError

if TYPE_CHECKING:
    from asgi_wasm.host.effects import ForeignCall, GrpcCall, GrpcStream, HttpCall
    from asgi_wasm.host.streams.header_map import HeaderMap
    from asgi_wasm.host.vm.vm import WasmVM

# A property's path has some parts of some letters; Envoy's longest attribute has 38 characters.
MAX_PATH_BYTES = 64 * 1024


def check_headers(vm: WasmVM, headers: HeaderMap, name: bytes, value: bytes, *, replaces: bool) -> None:
    """Before a field is added, or takes the place of all of its name. A map that only shrinks by it is let be."""
    limits = vm.spec.limits
    old = headers.get_all(name) if replaces else []
    count = len(headers) + 1 - len(old)
    if count > limits.header_count and count > len(headers):
        raise LimitReachedError("header_count", limits.header_count)
    grown = len(name) + len(value) - sum(len(name) + len(gone) for gone in old)
    if grown > 0 and headers.byte_size + grown > limits.header_bytes:
        raise LimitReachedError("header_bytes", limits.header_bytes)


def check_all_headers(vm: WasmVM, pairs: list[tuple[bytes, bytes]]) -> None:
    """Before all fields of a map are replaced by these."""
    limits = vm.spec.limits
    if len(pairs) > limits.header_count:
        raise LimitReachedError("header_count", limits.header_count)
    if sum(len(name) + len(value) for name, value in pairs) > limits.header_bytes:
        raise LimitReachedError("header_bytes", limits.header_bytes)


def check_property(vm: WasmVM, properties: Mapping[bytes, bytes], path: bytes, value: bytes) -> None:
    """Before a property of a request is set: plugins of one request share what there is."""
    most = vm.spec.limits.property_bytes
    kept = sum(len(key) + len(old) for key, old in properties.items() if key != path)
    if kept + len(path) + len(value) > most:
        raise LimitReachedError("property_bytes", most)


def check_size(vm: WasmVM, limit: str, address: int, size: int) -> None:
    """Before so many bytes are taken from the guest; ``limit`` is the field of `PluginLimits`.

    A range that leaves the guest's memory is told as such.
    """
    most: int = getattr(vm.spec.limits, limit)
    if size > most:
        check_range(vm, address, size)
        raise LimitReachedError(limit, most)


def check_range(vm: WasmVM, address: int, size: int) -> None:
    """Whether these bytes are the guest's, without a copy of them. Raises `MemoryAccessError`."""
    vm.memory.read(address + size, 0)


def ask(vm: WasmVM, effect: HttpCall | ForeignCall | GrpcCall | GrpcStream, size: int) -> None:
    """Leave a call for after this callback; ``size`` is that of all its bytes."""
    limits = vm.spec.limits
    asked = vm.asked
    if asked.count >= limits.callback_calls:
        raise LimitReachedError("callback_calls", limits.callback_calls)
    if asked.size + size > limits.callback_call_bytes:
        raise LimitReachedError("callback_call_bytes", limits.callback_call_bytes)
    asked.count += 1
    asked.size += size
    vm.effects.append(effect)
