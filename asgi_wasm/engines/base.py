"""What the host asks of a Wasm engine: compile, look, instantiate, call, read and write memory.

Values are Python ints. An i32 or i64 that reaches a host function, or comes back from a guest function, is
always non-negative: the engine masks it (`& 0xFFFFFFFF` or 64 bits), because the ABI's sizes and addresses are
unsigned and wasm itself has no sign. Ints passed *to* a guest may be given either way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

HostFunction = Callable[..., "int | None"]
GuestFunction = Callable[..., "int | None"]

I32 = "i32"
I64 = "i64"
F32 = "f32"
F64 = "f64"

# Elements of one table: a hundred times what a large plugin has, and 8 MB.
DEFAULT_TABLE_LIMIT = 1_000_000

# Bytes of the native stack that a guest's calls may use; wasmtime's own default.
DEFAULT_STACK_LIMIT = 512 * 1024


@dataclass(frozen=True)
class FuncType:
    """Parameter and result types of a function, each one of the value type names above."""

    params: tuple[str, ...] = ()
    results: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"({', '.join(self.params)}) -> ({', '.join(self.results)})"


@dataclass(frozen=True)
class Import:
    """One import of a module. ``type`` is None unless ``kind`` is "func"."""

    module: str
    name: str
    kind: str
    type: FuncType | None = None


@dataclass(frozen=True)
class Export:
    """One export of a module. ``kind`` is "func", "memory", "table" or "global"; ``type`` as in `Import`."""

    name: str
    kind: str
    type: FuncType | None = None


@dataclass(frozen=True)
class TimeLimit:
    """How long one entry into a guest may take, hostcalls included; 0 is no limit."""

    seconds: float
    # After so many seconds `on_slow` is called with the export's name and the seconds so far, in the guest's thread.
    slow_seconds: float
    on_slow: Callable[[str, float], None]
    # The limit in words, for the trap.
    told_as: str


class Memory(Protocol):
    """The linear memory that the module exports as ``memory``.

    Usable at any time between and during guest calls: an implementation re-reads base and size whenever the
    guest may have grown them. Addresses and sizes are non-negative ints.
    """

    @property
    def size(self) -> int:
        """Its present size in bytes."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """A copy of ``size`` bytes. Raises `MemoryAccessError` when the range leaves memory."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Store ``data``. Raises `MemoryAccessError`, and writes nothing, when the range leaves memory."""
        ...

    def write_u32(self, address: int, value: int) -> None:
        """Store four bytes, little endian. Raises `MemoryAccessError`."""
        ...


class Instance(Protocol):
    """A module with its own memory and globals. Not thread-safe: one call at a time."""

    @property
    def memory(self) -> Memory:
        """The exported memory. Raises `LinkError` when the module exports none."""
        ...

    def function(self, name: str) -> GuestFunction | None:
        """The exported function, or None. Fetch once and keep: looking up is slow, calling is fast.

        Calling it raises `TrapError` when the guest traps. When the trap was caused by a host function that
        raised, that exception is the trap's ``__cause__``; it never travels through the guest's frames.
        """
        ...

    @property
    def is_open(self) -> bool:
        """False once it is freed: closed, or finalized by a garbage collection that then found it in use again."""
        ...

    def close(self) -> None:
        """Free the instance. Calling anything afterwards is a bug. Idempotent."""
        ...


class Module(Protocol):
    """Compiled code, shared by any number of instances."""

    @property
    def imports(self) -> Sequence[Import]: ...

    @property
    def exports(self) -> Mapping[str, Export]: ...

    def instantiate(
        self,
        functions: Mapping[tuple[str, str], HostFunction],
        *,
        memory_limit: int,
        table_limit: int = DEFAULT_TABLE_LIMIT,
        time_limit: TimeLimit | None = None,
    ) -> Instance:
        """Link and run the start section.

        ``functions`` maps (module, name) to a callable for each function import. ``memory_limit`` is in bytes,
        ``table_limit`` in elements of each table; both hold where `Engine.limits_memory`. An entry that exceeds
        ``time_limit``, the start section too, traps, where `Engine.limits_time`.
        A host function takes one int per parameter and returns an int, or None when it has no result.
        Raises `LinkError` for an import that is missing or no function, `TrapError` for a trapping start section.
        """
        ...

    def serialize(self) -> bytes:
        """The compiled code in the engine's own format, for `Engine.deserialize` of the same engine."""
        ...

    def close(self) -> None:
        """Let go of the code, and the file that it is mapped from, as soon as its instances are closed. Idempotent.

        To instantiate, or serialize, afterwards is a bug.
        """
        ...


class Engine(Protocol):
    """A Wasm engine. Thread-safe: modules may be compiled on any thread."""

    @property
    def name(self) -> str:
        """The name that settings use: "wasmtime", "wasmer" or "null"."""
        ...

    @property
    def fingerprint(self) -> str:
        """Version, flags and target: compiled code may be exchanged only between equal fingerprints."""
        ...

    @property
    def limits_memory(self) -> bool:
        """Whether ``memory_limit`` and ``table_limit`` are enforced."""
        ...

    @property
    def limits_time(self) -> bool:
        """Whether ``time_limit`` is enforced."""
        ...

    def compile(self, code: bytes) -> Module:
        """Raises `InvalidModuleError`, in one sentence, for bytes that are no core module."""
        ...

    def deserialize(self, compiled: bytes) -> Module:
        """Raises `InvalidModuleError` when the bytes are not this engine's. Trusted input only."""
        ...

    def deserialize_file(self, path: Path) -> Module:
        """`deserialize` of a file's content, which may be mapped into memory: it must be replaced, never rewritten.

        Raises OSError too.
        """
        ...
