"""Spec chapter "Foreign functions": what plugins call by name.

Followed: proxy-wasm-cpp-host `src/exports.cc` (`call_foreign_function`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host import limits
from asgi_wasm.host.abi import HostcallError, ProxyStatus

if TYPE_CHECKING:
    from asgi_wasm.host.vm.vm import WasmVM

__all__ = ["call_foreign_function"]


def call_foreign_function(
    vm: WasmVM,
    name_data: int,
    name_size: int,
    arguments_data: int,
    arguments_size: int,
    return_results_data: int,
    return_results_size: int,
) -> int | None:
    """Call it with the argument bytes and hand over its result bytes. NOT_FOUND for an unknown name.

    A function that answers another status than OK has the empty result. Null result pointers mean that the guest does
    not want the result.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_call_foreign_function
    Follows: proxy-wasm-cpp-host `exports::call_foreign_function` (`src/exports.cc`).
    """
    limits.check_range(vm, arguments_data, arguments_size)
    name = limits.read_name(vm, name_data, name_size, ProxyStatus.NOT_FOUND).decode("utf-8", "replace")
    function = vm.foreign_functions.get(name)
    if function is None:
        return ProxyStatus.NOT_FOUND
    arguments = limits.read(vm, "foreign_bytes", arguments_data, arguments_size)
    result, status = b"", None
    try:
        result = function(vm, arguments) or b""
    except HostcallError as error:
        status = error.status
    if return_results_data and return_results_size:
        vm.memory.give(result, return_results_data, return_results_size)
    elif return_results_size:
        vm.memory.write_u32(return_results_size, len(result))
    return status
