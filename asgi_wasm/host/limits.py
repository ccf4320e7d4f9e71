"""What a plugin may make the host keep or do: each check of `limits.PluginLimits` that a hostcall makes.

Neither the spec nor Envoy bounds most of these. A check raises `LimitReachedError` before anything is done; the
linker counts it, says it once a VM, and answers INTERNAL_FAILURE. An SDK that takes no such status aborts its VM, and
the request gets the failure policy: the last resort, and the plugin's own choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host.abi import HostcallError, ProxyStatus
from asgi_wasm.host.codecs.wire import MAX_PAIRS_BYTES, Pairs, decode_pairs
from asgi_wasm.host.ports import LimitReachedError

if TYPE_CHECKING:
    from asgi_wasm.host.effects import ForeignCall, GrpcCall, GrpcStream, HttpCall
    from asgi_wasm.host.ports import Effect
    from asgi_wasm.host.streams.buffer import Buffer
    from asgi_wasm.host.streams.header_map import HeaderMap
    from asgi_wasm.host.vm.contexts import Chain, Context
    from asgi_wasm.host.vm.vm import WasmVM


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


def keep_property(vm: WasmVM, chain: Chain, path: bytes, value: bytes) -> None:
    """Put a property among those of the chain: plugins of one request share what room there is.

    Raises `LimitReachedError`.
    """
    most, properties = vm.spec.limits.property_bytes, chain.properties
    count, kept = chain.properties_kept
    if count != len(properties):
        # Another middleware of ours has set some since, or it is the first time.
        kept = sum(map(len, properties)) + sum(map(len, properties.values()))
    kept += len(value) - len(properties[path]) if path in properties else len(path) + len(value)
    if kept > most:
        raise LimitReachedError("property_bytes", most)
    properties[path] = value
    chain.properties_kept = len(properties), kept


def declare_property(vm: WasmVM, context: Context, name: bytes, *, is_read_only: bool) -> None:
    """Put a property that was not declared before among those of the context. Raises `LimitReachedError`."""
    most = vm.spec.limits.property_bytes
    if context.declared_bytes + len(name) > most:
        raise LimitReachedError("property_bytes", most)
    context.declared_properties[name] = is_read_only
    context.declared_bytes += len(name)


def check_size(vm: WasmVM, limit: str, address: int, size: int) -> None:
    """Before so many bytes are taken from the guest; ``limit`` is the field of `PluginLimits`.

    A range that leaves the guest's memory is told as such.
    """
    most: int = getattr(vm.spec.limits, limit)
    if size > most:
        check_range(vm, address, size)
        raise LimitReachedError(limit, most)


def read(vm: WasmVM, limit: str, address: int, size: int) -> bytes:
    """These bytes of the guest's; see `check_size`."""
    check_size(vm, limit, address, size)
    return vm.memory.read(address, size)


def read_name(vm: WasmVM, address: int, size: int, unknown: ProxyStatus | None = None) -> bytes:
    """A name that is looked up, or kept. ``unknown`` is what the hostcall answers for one that nobody has.

    Names are compared, decoded and searched for what they may not hold: that takes a guest's gigabyte half a minute.
    """
    try:
        return read(vm, "name_bytes", address, size)
    except LimitReachedError as error:
        if unknown is None:
            raise
        vm.notices.limit_reached(vm.plugin_name(), error)
        raise HostcallError(unknown) from None


def read_body(vm: WasmVM, buffer: Buffer, replaced: int, address: int, size: int) -> bytes:
    """What is to be put into a body, in place of so many bytes of it. One that does not grow is let be."""
    most = vm.spec.limits.body_bytes
    length = len(buffer) - min(replaced, len(buffer)) + size
    if length > most and length > len(buffer):
        check_range(vm, address, size)
        raise LimitReachedError("body_bytes", most)
    return vm.memory.read(address, size)


def read_pairs(vm: WasmVM, address: int, size: int) -> Pairs:
    """Serialized pairs. So many bytes that they are read as none are not read."""
    if size > MAX_PAIRS_BYTES:
        check_range(vm, address, size)
        return []
    return decode_pairs(vm.memory.read(address, size))


def check_range(vm: WasmVM, address: int, size: int) -> None:
    """Whether these bytes are the guest's, without a copy of them. Raises `MemoryAccessError`."""
    vm.memory.read(address + size, 0)


def ask(vm: WasmVM, effect: HttpCall | ForeignCall | GrpcCall | GrpcStream, size: int) -> None:
    """Leave a call for after this callback; ``size`` is that of all its bytes."""
    most = vm.spec.limits.callback_calls
    if vm.calls.count >= most:
        raise LimitReachedError("callback_calls", most)
    leave(vm, effect, size)
    vm.calls.count += 1


def leave(vm: WasmVM, effect: Effect, size: int = 0) -> None:
    """Leave something to be done after this callback, which keeps so many bytes until then."""
    limits, calls = vm.spec.limits, vm.calls
    if len(vm.effects) >= limits.callback_effects:
        raise LimitReachedError("callback_effects", limits.callback_effects)
    if calls.size + size > limits.callback_call_bytes:
        raise LimitReachedError("callback_call_bytes", limits.callback_call_bytes)
    calls.size += size
    vm.effects.append(effect)
