"""How a guest call ends badly: a host function's exception, kept aside, and an engine's report, made short."""

from __future__ import annotations

from collections.abc import Sequence

from asgi_wasm.errors import MemoryAccessError, TrapError

# Innermost functions tell where a guest failed; the rest is the way there.
MAX_FRAMES = 8
MAX_NAME = 80

# Python functions between a caller of wasmtime's classes and the host function, with a reserve.
CALL_DEPTH = 12


class Failure:
    """The exception that a host function raised, kept until the guest call around it has ended."""

    __slots__ = ("error", "source")

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.source = ""

    def take(self) -> BaseException | None:
        """The exception, which is kept no longer."""
        error, self.error = self.error, None
        return error


def trap_error(reason: str, frames: Sequence[str], error: BaseException | None, source: str) -> TrapError:
    """What to raise for a trap, in one line.

    ``frames`` are the guest's functions, innermost first. If the host function ``source`` raised ``error``, then that
    is the reason.
    """
    if error is not None:
        reason = f"host function {source} raised {type(error).__name__}: {error}".rstrip(": ")
    names = [name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}..." for name in frames[:MAX_FRAMES]]
    where = f" (in {' < '.join(names)}{' < ...' if len(frames) > MAX_FRAMES else ''})" if names else ""
    trap = TrapError(f"{reason}{where}")
    trap.__cause__ = error
    return trap


def outside_memory(address: int, size: int, present: int) -> MemoryAccessError:
    """What to raise for a range that leaves a memory of ``present`` bytes."""
    return MemoryAccessError(f"{size} bytes at {address:#x} are outside the guest's {present} bytes of memory")


def headroom(levels: int) -> None:
    """Raise RecursionError, an ordinary exception here, unless Python may call ``levels`` functions in each other.

    At the start of a callback out of the engine it would be none: ctypes has nobody to raise it to.
    """
    if levels:
        headroom(levels - 1)
