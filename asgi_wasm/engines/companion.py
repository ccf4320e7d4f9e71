"""What the host asks of an engine that can put modules of the host's own beside a guest, in its store.

Optional: an engine whose modules are no `CompanionModule` hosts every plugin as well, only slower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, runtime_checkable

from asgi_wasm.engines.base import DEFAULT_TABLE_LIMIT, GuestFunction, HostFunction, Import, Instance, Module, TimeLimit


class Companion(Protocol):
    """Modules of the host's own that stand beside a guest, in its store, and answer some of its imports there.

    They are instantiated in this order: ``trampolines``, whose functions the guest imports instead of the host's, and
    which has the kernel's memory; the guest; ``shim``, which sees both memories; ``kernel``; ``patch``, which puts the
    kernel's functions into the table of the trampolines.
    """

    @property
    def trampolines(self) -> Module: ...

    @property
    def shim(self) -> Module: ...

    @property
    def kernel(self) -> Module: ...

    @property
    def patch(self) -> Module: ...

    def trampoline(self, imported: Import) -> str | None:
        """Which trampoline the guest is given for this import; None: the host's function."""
        ...

    def slow(self, name: str) -> tuple[str, str] | None:
        """Which of the host's functions the kernel imports under this name."""
        ...

    def exports(self, name: str) -> Sequence[str]:
        """Which of the guest's exports the kernel imports under this name: the first that is there."""
        ...


# The name of the callback that runs, where time is told, or what gives it.
Told = str | Callable[[], str]


class Native(Protocol):
    """Addresses by which machine code calls the kernel; they live as long as this object.

    ``call`` is a C function ``(store, function, slots, count, trap)`` which gives back an error or NULL; an argument or
    result lies in the low bytes of a slot of 16.

    ``entry`` is that of two numbers of 64 bits, by which the time limit knows machine code's entries from each other.
    Before each call, add 1 to the first and write the function's address into the second; after it, whatever came of
    it, add 1 to the first again. And release the GIL meanwhile: the thread that watches the time needs it.

    ``guest`` is where the plugin's memory begins, which never moves.
    """

    call: int
    store: int
    entry: int
    guest: int

    def function(self, name: str, told_as: Told = "") -> int:
        """The kernel's exported function."""
        ...

    def headroom(self) -> None:
        """Raise RecursionError where a callback out of the guest would find too few levels of calls."""
        ...

    def fail(self, error: int, trap: int) -> NoReturn:
        """Raise `EngineError` for what a call gave back, by address; for neither, that the instance is closed."""
        ...


class Ticker(Protocol):
    """Machine code that calls C functions of one pointer, again and again, without the GIL."""

    def run(self, calls: tuple[tuple[int, int], ...], microseconds: int, times: int, /) -> None:
        """Make each call, by the addresses of a function and its argument, and wait; so many times, or until `ring`.

        Raises ValueError where it runs already.
        """
        ...

    def ring(self) -> None:
        """End the run that is under way, or the next after its first turn. Called on any thread."""
        ...


class Beside(Protocol):
    """The instance of a `Companion`'s kernel, and its memory, whose place and size never change."""

    def function(self, name: str, told_as: Told = "") -> GuestFunction:
        """The kernel's exported function; its time is told under ``told_as``, which is asked while it runs."""
        ...

    def words(self, address: int, count: int) -> Any:
        """Numbers of 32 bits in the kernel's memory, to be read and written in place."""
        ...

    def address(self, address: int, size: int) -> int:
        """Where such bytes lie for machine code."""
        ...

    def view(self, address: int, size: int) -> memoryview:
        """Bytes of the kernel's memory, to be read and written in place."""
        ...

    def characters(self, address: int, size: int) -> Sequence[bytes]:
        """The same bytes; what is sliced out of them is a copy, as bytes."""
        ...

    @property
    def native(self) -> Native:
        """A new way in for machine code. It keeps the store while it lives."""
        ...

    def close(self) -> None:
        """Free what it holds of the store. What was read or written in place must not be any more."""
        ...


@dataclass(frozen=True)
class NativeFunction:
    """A host function in machine code, by the address of a C function ``(env, caller, slots, count)``.

    ``owner`` keeps ``env`` alive.
    """

    address: int
    env: int
    owner: object


@runtime_checkable
class CompanionModule(Protocol):
    """A `Module` of an engine that can put a `Companion` beside a guest, where ``takes_companion`` says so."""

    @property
    def takes_companion(self) -> bool: ...

    def instantiate_beside(
        self,
        functions: Mapping[tuple[str, str], HostFunction | NativeFunction],
        companion: Companion,
        *,
        memory_limit: int,
        table_limit: int = DEFAULT_TABLE_LIMIT,
        time_limit: TimeLimit | None = None,
    ) -> tuple[Instance, Beside]:
        """`Module.instantiate`, with the companion's own imports of the host among ``functions``."""
        ...
