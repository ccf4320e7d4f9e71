"""What a module exports for the host: its callbacks, its allocator, and the entry points of WASI.

Followed: proxy-wasm-cpp-host `src/wasm.cc` (`getFunctions`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from asgi_wasm.engines.base import GuestFunction, Instance, Module
from asgi_wasm.errors import LinkError
from asgi_wasm.host.abi import AbiVersion
from asgi_wasm.host.signatures import Signature, callbacks, parameters

# Entry points of WASI: those of a reactor, and that of a command. Like the allocator, never restricted by capabilities.
_REACTOR = (
    Signature("_initialize", (), None),
    Signature("main", parameters("argc argv"), "i32"),
    Signature("__main_void", (), "i32"),
)
_COMMAND = (Signature("_start", (), None),)
_ALLOCATORS = ("malloc", "proxy_on_memory_allocate")


def is_sound(module: Module, version: AbiVersion) -> bool:
    """Whether it exports what it should; what is wrong with another is told where it is instantiated alone."""
    exports = module.exports
    if "memory" not in exports or not any(name in exports for name in _ALLOCATORS):
        return False
    rows = callbacks(version).values()
    return all(row.name not in exports or exports[row.name].type == row.type for row in rows)


def resolve(
    module: Module,
    instance: Instance,
    version: AbiVersion,
    allowed: Collection[str],
    wrapped: Callable[[Signature, GuestFunction], GuestFunction],
) -> dict[str, GuestFunction]:
    """What may be called, by name, each as ``wrapped`` has it; ``allowed`` are the capabilities, none for all.

    Raises `LinkError` for an export that is no function, or one of another type than the ABI's.
    """
    entry_points = _REACTOR if "_initialize" in module.exports else _COMMAND
    found: dict[str, GuestFunction] = {}
    for row in (*callbacks(version).values(), *entry_points):
        export = module.exports.get(row.name)
        may_be_denied = row not in entry_points and row.name not in _ALLOCATORS
        if export is None or (may_be_denied and allowed and row.name not in allowed):
            continue
        function = instance.function(row.name)
        if function is None:
            raise LinkError(f"its export {row.name} is a {export.kind}, but ABI {version} has a function there")
        if export.type != row.type:
            raise LinkError(f"its callback {row.name} has type {export.type}, but ABI {version} wants {row.type}")
        found[row.name] = wrapped(row, function)
    return found


def allocator(functions: Mapping[str, GuestFunction]) -> GuestFunction:
    """What gives the host memory of the guest's. Raises `LinkError` when there is none."""
    for name in _ALLOCATORS:
        if name in functions:
            return functions[name]
    raise LinkError("it exports neither malloc nor proxy_on_memory_allocate, so the host cannot hand it data")


def with_end_of_stream(function: GuestFunction | None, version: AbiVersion) -> GuestFunction | None:
    """A callback of headers as every version but 0.1.0 has it, which has no parameter for the end of the stream."""
    if function is None or version > AbiVersion.V0_1_0:
        return function
    return lambda context_id, count, _end_of_stream: function(context_id, count)
