"""How a guest call ends badly: a host function's exception, kept aside, and an engine's report, made short."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import dropwhile, groupby

from asgi_wasm.errors import MemoryAccessError, TrapError

# Innermost functions tell where a guest failed; the rest is the way there.
MAX_FRAMES = 8
MAX_NAME = 80
# What is looked at of a name: no compiler writes longer ones, but a hostile module may have one of a megabyte.
_LONGEST = 2000
# What an engine that hands frames one by one is asked for: beyond the way out of a panic, and of a recursion.
MOST_FRAMES = 64

# Rust's crate hashes, of both manglings.
_HASH = re.compile(r"\[[0-9a-f]{8,16}\]|::h[0-9a-f]{16}$")
# The way from a panic to the trap, the same for each: the plugin's own line is below it.
_PANIC = re.compile(
    r"__rustc::|(core|std)::panicking::|rust_panic|rust_begin_unwind|__rust_(end_short_backtrace|start_panic|abort)"
    r"|std::process::abort|std::sys::.*abort|core::(option|result)::(expect|unwrap)_failed"
    r"|runtime\.(abort|crash|fatalpanic|fatalthrow|throw|fatal|gopanic|sigpanic|goPanic\w*|panic\w*)$"
)

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
    names = _told(frames)
    where = f" (in {' < '.join(names[:MAX_FRAMES])}{' < ...' if len(names) > MAX_FRAMES else ''})" if names else ""
    trap = TrapError(f"{reason}{where}")
    trap.__cause__ = error
    return trap


def _told(frames: Sequence[str]) -> list[str]:
    """Names without hashes; a panic's own functions are left out, and a function that calls itself is told once."""
    names = [_HASH.sub("", name[:_LONGEST]) for name in frames]
    names = [*dropwhile(_PANIC.search, names)] or names
    short = (name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}..." for name in names)
    runs = ((name, len([*same])) for name, same in groupby(short))
    # Engines hand over the innermost ones alone.
    return [name if times == 1 else f"{name} ({times} times or more)" for name, times in runs]


def outside_memory(address: int, size: int, present: int) -> MemoryAccessError:
    """What to raise for a range that leaves a memory of ``present`` bytes."""
    return MemoryAccessError(f"{size} bytes at {address:#x} are outside the guest's {present} bytes of memory")


def headroom(levels: int) -> None:
    """Raise RecursionError, an ordinary exception here, unless Python may call ``levels`` functions in each other.

    At the start of a callback out of the engine it would be none: ctypes has nobody to raise it to.
    """
    if levels:
        headroom(levels - 1)


def _no_level() -> None:
    pass


def _nested() -> list[object]:
    """Of three levels, for whoever compares it with another one."""
    return [[[]]]


_LEVELS, _OTHER_LEVELS = _nested(), _nested()


def callback_headroom() -> None:
    """`headroom` for what a callback needs, and what looks at its trap afterwards, at half the price."""
    if _COMPARES:
        # An engine's functions are a level of their own there. Those of a comparison count like those of calls, and
        # cost a tenth.
        _ = _LEVELS == _OTHER_LEVELS
    else:
        _no_level()


# Before CPython 3.12, which counts its own levels apart from Python's.
_COMPARES = sys.version_info < (3, 12)
