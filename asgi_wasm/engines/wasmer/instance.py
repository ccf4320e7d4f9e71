"""A running module of the package wasmer's, and its memory."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from asgi_wasm.engines import base
from asgi_wasm.engines.traps import Failure, outside_memory
from asgi_wasm.engines.wasmer.calls import BoundFunction, bind_guest_function
from asgi_wasm.errors import EngineError, LinkError

_pack_u32 = struct.Struct("<I").pack_into


class WasmerInstance:
    """`base.Instance`. Only `close` breaks the cycle of host and instance, which Python's collector cannot see."""

    def __init__(
        self, instance: Any, exports: Mapping[str, base.Export], bound: Sequence[BoundFunction], failure: Failure
    ) -> None:
        self._instance = instance
        self._exports = exports
        self._bound = bound
        self._failure = failure

    @property
    def memory(self) -> WasmerMemory:
        """The exported memory, a new object each time. Raises `LinkError` when there is none."""
        export = self._exports.get("memory")
        if export is None or export.kind != "memory":
            raise LinkError('the module exports no memory named "memory"')
        return WasmerMemory(self._open_exports().memory)

    def function(self, name: str) -> base.GuestFunction | None:
        """`base.Instance.function`. One with several results returns the first."""
        export = self._exports.get(name)
        if export is None or export.type is None:
            return None
        return bind_guest_function(getattr(self._open_exports(), name), export.type, self._failure)

    @property
    def is_open(self) -> bool:
        """False after `close`; nothing else frees it."""
        return self._instance is not None

    def close(self) -> None:
        """Let go of the host's functions, and of the instance, which wasmer frees then."""
        # Python's garbage collector cannot see through wasmer's objects, so a cycle of host and instance ends here.
        for each in self._bound:
            each.close()
        self._instance = None

    def _open_exports(self) -> Any:
        if self._instance is None:
            raise EngineError("the instance is closed")
        return self._instance.exports


class WasmerMemory:
    """`base.Memory`. The buffer is asked for at each access: an older one keeps an older size."""

    __slots__ = ("_memory",)

    def __init__(self, memory: Any) -> None:
        self._memory = memory

    @property
    def size(self) -> int:
        """In bytes, as the package says now."""
        return int(self._memory.data_size)

    def read(self, address: int, size: int) -> bytes:
        """A copy out of a new buffer. Raises `MemoryAccessError`."""
        return self._view(address, size).tobytes()

    def write(self, address: int, data: bytes) -> None:
        """Through a new buffer. Raises `MemoryAccessError`."""
        self._view(address, len(data))[:] = data

    def write_u32(self, address: int, value: int) -> None:
        """Packed into a new buffer. Raises `MemoryAccessError`."""
        _pack_u32(self._view(address, 4), 0, value & 0xFFFFFFFF)

    def _view(self, address: int, size: int) -> memoryview:
        view = memoryview(self._memory.buffer)
        end = address + size
        if end > len(view):
            raise outside_memory(address, size, len(view))
        return view[address:end]
