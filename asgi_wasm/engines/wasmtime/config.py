"""How wasmtime is configured: no signal handlers, and memory that fits into the address space there is."""

from __future__ import annotations

import mmap

import wasmtime
from wasmtime import _ffi as ffi

from asgi_wasm.engines.base import DEFAULT_STACK_LIMIT

# Bump when `make_config` changes: compiled code depends on it.
FLAGS = "cranelift-4"

# All that a 32-bit memory can ever grow to. Only address space is reserved, not memory.
RESERVED_FOR_MEMORY = 1 << 32

# By how much a memory that may move grows in place.
RESERVED_FOR_GROWTH = 1 << 20

# For how many memories there must be room, or else none is reserved: a handful of plugins, and those that replace them.
ROOM = 16


def make_config(
    *, memory_may_move: bool, stack_limit: int = DEFAULT_STACK_LIMIT, parallel: bool = True
) -> wasmtime.Config:
    """The engine's configuration; ``parallel`` says whether several threads may compile a module.

    Traps are found by checks in the compiled code and not by signal handlers, of which a process has one set: whoever
    installs another later (faulthandler, a crash reporter) would let the next trap end the process.
    """
    config = wasmtime.Config()
    pointer = config.ptr()
    ffi.wasmtime_config_signals_based_traps_set(pointer, False)
    # Guests can be interrupted.
    ffi.wasmtime_config_epoch_interruption_set(pointer, True)
    # Where every access is checked, no inaccessible pages are needed behind a memory.
    ffi.wasmtime_config_memory_guard_size_set(pointer, 0)
    ffi.wasmtime_config_memory_may_move_set(pointer, memory_may_move)
    ffi.wasmtime_config_memory_reservation_set(pointer, 0 if memory_may_move else RESERVED_FOR_MEMORY)
    if memory_may_move:
        ffi.wasmtime_config_memory_reservation_for_growth_set(pointer, RESERVED_FOR_GROWTH)
    ffi.wasmtime_config_max_wasm_stack_set(pointer, stack_limit)
    ffi.wasmtime_config_parallel_compilation_set(pointer, parallel)
    ffi.wasmtime_config_wasm_memory64_set(pointer, False)
    # The host's own shim sees two memories (`companion.Companion`).
    ffi.wasmtime_config_wasm_multi_memory_set(pointer, True)
    # The C API aborts the process when asked about functions that take or return typed references.
    ffi.wasmtime_config_wasm_function_references_set(pointer, False)
    ffi.wasmtime_config_wasm_gc_set(pointer, False)
    return config


def can_reserve() -> bool:
    """Whether the process may have so much address space (ulimit -v, RLIMIT_AS, a sandbox, a small machine)."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows, where nothing limits it
        return True
    try:
        # Without any access it counts for nothing but its addresses, as wasmtime's own reservations.
        mmap.mmap(-1, ROOM * RESERVED_FOR_MEMORY, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0).close()
    except (OSError, OverflowError, ValueError):
        return False
    return True
