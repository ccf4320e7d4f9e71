"""Spec chapter "Foreign functions": Python callables that plugins call by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host.abi import ProxyStatus

if TYPE_CHECKING:
    from asgi_wasm.host.vm import WasmVM

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

    The function may raise `HostcallError` to answer another status. Null result pointers mean that the guest does
    not want the result.
    """
    name = vm.memory.read(name_data, name_size).decode("utf-8", "replace")
    function = vm.ports.foreign_functions.get(name)
    if function is None:
        return ProxyStatus.NOT_FOUND
    result = function(vm.memory.read(arguments_data, arguments_size)) or b""
    if return_results_data and return_results_size:
        vm.memory.give(result, return_results_data, return_results_size)
    return None
