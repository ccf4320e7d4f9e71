"""The guest's memory as a hostcall sees it: read arguments, hand results over.

Followed: proxy-wasm-cpp-host `src/exports.cc` and `WasmBase::copyToPointerSize`.
"""

from __future__ import annotations

from collections.abc import Callable

from asgi_wasm.engines.base import Memory
from asgi_wasm.errors import MemoryAccessError
from asgi_wasm.host.abi import HostcallError, ProxyStatus


class _NoMemory:
    """What a module's start section runs with: it runs before the host can reach its memory.

    So its hostcalls answer INVALID_MEMORY_ACCESS, as with Envoy's V8; SDKs do their work in `_initialize` instead.
    """

    size = 0

    def read(self, address: int, size: int) -> bytes:
        raise MemoryAccessError("the start section runs before the module's memory can be reached")

    def write(self, address: int, data: bytes) -> None:
        self.read(address, len(data))

    def write_u32(self, address: int, value: int) -> None:
        self.read(address, 4)


NO_MEMORY: Memory = _NoMemory()


class GuestMemory:
    """Linear memory plus the guest's own allocator.

    Every method may raise `MemoryAccessError`, which the linker answers as INVALID_MEMORY_ACCESS.
    """

    __slots__ = ("_allocate", "read", "write", "write_u32")

    def __init__(self, memory: Memory, allocate: Callable[[int], int]) -> None:
        self._allocate = allocate
        # Bound once: each hostcall goes through these, some of them five times.
        self.read = memory.read
        self.write = memory.write
        self.write_u32 = memory.write_u32

    def write_u64(self, address: int, value: int) -> None:
        """Store eight bytes, little endian."""
        self.write(address, (value & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little"))

    def give(self, data: bytes, return_data: int, return_size: int) -> None:
        """Copy ``data`` into memory that the guest will own, and store its address and size where asked.

        Exactly one allocation of exactly this size, because the Rust SDK frees it as such; none for empty data,
        because the Go SDK panics on size 0: it gets (0, 0) instead.
        """
        address = 0
        if data:
            address = self._allocate(len(data))
            if address == 0:
                raise HostcallError(ProxyStatus.INVALID_MEMORY_ACCESS)
            self.write(address, data)
        self.write_u32(return_data, address)
        self.write_u32(return_size, len(data))
