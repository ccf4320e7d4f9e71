"""A guest's memory, read and written in place."""

from __future__ import annotations

import struct
from ctypes import byref, c_char, c_size_t
from typing import Any

from wasmtime import _ffi as ffi

from asgi_wasm.engines.traps import outside_memory
from asgi_wasm.engines.wasmtime.calls import Context

# Function objects of our own, without the bindings' checks of arguments.
_data = ffi.dll["wasmtime_memory_data"]
_data.restype = c_size_t
_data_size = ffi.dll["wasmtime_memory_data_size"]
_data_size.restype = c_size_t

_pack_u32 = struct.Struct("<I").pack_into


class RawMemory:
    """`base.Memory` in place, at an address that stays.

    The address of memory never changes, by the engine's configuration, and memory never shrinks. So a range inside
    the size seen last is inside memory, and only a range outside it asks wasmtime for the present size.
    """

    __slots__ = ("_base", "_bytes", "_context", "_extern", "_memory", "_size", "_view")

    def __init__(self, context: Context, extern: Any) -> None:
        self._context: Context | None = context
        self._extern = extern  # what `_memory` points into
        self._memory = byref(extern.of.memory)
        self._map(0, 0)
        self._refresh()

    @property
    def size(self) -> int:
        """In bytes, as wasmtime says now."""
        self._refresh()
        return self._size

    def read(self, address: int, size: int) -> bytes:
        """A copy. Wasmtime is asked only for what lies outside the size seen last."""
        end = address + size
        if end > self._size:
            self._grown_to(address, size)
        return self._bytes[address:end]  # type: ignore[no-any-return]  # a slice of c_char is bytes

    def write(self, address: int, data: bytes) -> None:
        """In place; else as `read`."""
        end = address + len(data)
        if end > self._size:
            self._grown_to(address, len(data))
        self._view[address:end] = data

    def write_u32(self, address: int, value: int) -> None:
        """Packed in place; else as `read`."""
        if address + 4 > self._size:
            self._grown_to(address, 4)
        _pack_u32(self._view, address, value & 0xFFFFFFFF)

    @property
    def address(self) -> int:
        """Where it begins in this process."""
        return self._base

    def close(self) -> None:
        """Make every access fail: the memory is about to go."""
        self._context = None
        self._map(0, 0)

    def _refresh(self) -> None:
        if self._context is None:
            return
        base_address, size = _data(self._context, self._memory), _data_size(self._context, self._memory)
        if base_address != self._base or size != self._size:
            self._map(base_address, size if base_address else 0)

    def _map(self, base_address: int, size: int) -> None:
        array = (c_char * size).from_address(base_address) if size else (c_char * 0)()
        self._bytes: Any = array
        self._view = memoryview(array).cast("B")
        self._base = base_address
        self._size = size

    def _grown_to(self, address: int, size: int) -> None:
        self._refresh()
        if address + size > self._size:
            raise outside_memory(address, size, self._size)


class MovingMemory(RawMemory):
    """Memory whose address may change in any call that grows it: every access asks for it first."""

    __slots__ = ()

    def read(self, address: int, size: int) -> bytes:
        """After asking for address and size anew."""
        self._refresh()
        return super().read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """After asking for address and size anew."""
        self._refresh()
        super().write(address, data)

    def write_u32(self, address: int, value: int) -> None:
        """After asking for address and size anew."""
        self._refresh()
        super().write_u32(address, value)
