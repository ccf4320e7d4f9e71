"""Spec chapter "Shared key-value store"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host import limits
from asgi_wasm.host.abi import ProxyStatus

if TYPE_CHECKING:
    from asgi_wasm.host.vm.vm import WasmVM

__all__ = ["get_shared_data", "set_shared_data"]


def get_shared_data(
    vm: WasmVM, key_data: int, key_size: int, return_value_data: int, return_value_size: int, return_cas: int
) -> int | None:
    """The value and its CAS number. NOT_FOUND for a key that was never set; an empty value is a value.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_get_shared_data
    Follows: proxy-wasm-cpp-host `SharedData::get` (`src/shared_data.cc`).
    """
    found = vm.ports.shared_data.get(vm.spec.vm_id, limits.read_name(vm, key_data, key_size, ProxyStatus.NOT_FOUND))
    if found is None:
        return ProxyStatus.NOT_FOUND
    value, cas = found
    vm.memory.give(value, return_value_data, return_value_size)
    vm.memory.write_u32(return_cas, cas)
    return None


def set_shared_data(vm: WasmVM, key_data: int, key_size: int, value_data: int, value_size: int, cas: int) -> int | None:
    """Store it. CAS_MISMATCH when ``cas`` is neither 0 nor the key's present number.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_set_shared_data
    Follows: proxy-wasm-cpp-host `SharedData::set` (`src/shared_data.cc`).
    """
    key, value = limits.read_name(vm, key_data, key_size), limits.read(vm, "value_bytes", value_data, value_size)
    stored = vm.ports.shared_data.set(vm.spec.vm_id, key, value, cas)
    return None if stored else ProxyStatus.CAS_MISMATCH
