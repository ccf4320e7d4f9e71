"""The time limit of a guest, by wasmtime's epochs.

Wherever it could go on for ever, compiled code compares a number of the engine, the epoch, with its store's deadline.
The watchdog raises the epoch; the first comparison after that calls `Guard.seen`, in the guest's thread, which sets the
deadline to the next epoch and sees whether this is still the entry into the guest that it saw before. So an entry costs
nothing here, and one that lasts costs a call of `Guard.seen` a tick.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, PYFUNCTYPE, Structure, c_size_t, c_uint8, c_uint64, c_void_p, cast
from types import CodeType, FrameType
from typing import Any, Protocol

import wasmtime
from wasmtime import _ffi as ffi

from asgi_wasm.engines.base import TimeLimit
from asgi_wasm.engines.companion import Told
from asgi_wasm.engines.traps import Failure
from asgi_wasm.engines.watchdog import LONGEST_PERIOD, NativeTick, Ticking, Watchdog

# How the report of an interruption begins, which wasmtime gives as an error and not as a trap.
INTERRUPTED = "wasm trap: interrupted, since "

# Beyond all epochs.
_NEVER = 1 << 62
# WASMTIME_UPDATE_DEADLINE_CONTINUE
_CONTINUE = 0
# A limit is exceeded by at most two ticks, so that is the part of it.
_TICKS = 10
# What is only told of is surely told from half as long again. Where Python ticks, a tick costs: its thread waits for
# the GIL, up to 5 ms, and as long as it waits, whoever releases the GIL for a guest wakes it in vain.
_SLOW_TICKS = 2

# Variables of the functions that enter a guest: each has at least one, of its own.
_VARIABLES = ("slots", "function")

# wasmtime_error_t *callback(wasmtime_context_t *, void *data, uint64_t *delta, wasmtime_update_deadline_kind_t *)
_Callback = CFUNCTYPE(c_size_t, c_void_p, c_void_p, POINTER(c_uint64), POINTER(c_uint8))

# Function objects of our own, without the bindings' checks of arguments.
_set_callback = ffi.dll["wasmtime_store_epoch_deadline_callback"]
_set_callback.restype = None
_set_deadline = ffi.dll["wasmtime_context_set_epoch_deadline"]
_set_deadline.restype = None
_new_error = ffi.dll["wasmtime_error_new"]
_new_error.restype = c_size_t
# Called with the GIL held, since all it does is to add one: to let go of the GIL and wait for it again would cost the
# thread that runs guests, too.
_increment = PYFUNCTYPE(None, c_void_p)(("wasmtime_engine_increment_epoch", ffi.dll))


def raise_epoch(engine: wasmtime.Engine) -> None:
    """Let every guest of the engine that runs, or runs next, be seen by its guard."""
    _increment(engine.ptr())


def native_tick(engine: wasmtime.Engine) -> NativeTick:
    """How machine code does the same."""
    function, argument = cast(_increment, c_void_p).value, cast(engine.ptr(), c_void_p).value
    assert function is not None and argument is not None
    return NativeTick((function, argument), engine)


def codes_in(function: Callable[..., Any]) -> frozenset[CodeType]:
    """The code of the functions that are written inside of this one."""
    return frozenset(each for each in function.__code__.co_consts if isinstance(each, CodeType))


class NativeEntry(Structure):
    """What machine code tells of its entries into one store (`companion.Native.entry`)."""

    _fields_ = (("count", c_uint64), ("function", c_uint64))

    count: int
    function: int


class Guard:
    """Interrupts the guest of one store when one entry into it lasts too long.

    An entry of machine code is known by its number, which is odd while it lasts. Another is known by the outermost
    Python frame that entered the guest: one whose code is in ``entering``, else (the start section) the innermost frame
    and the instruction it is at. (The allocator, which the host calls in a hostcall, is part of the entry around it.)
    """

    def __init__(
        self, limit: TimeLimit, watchdog: Watchdog, entering: frozenset[CodeType], native: NativeEntry
    ) -> None:
        self._limit = limit
        self._watchdog = watchdog
        self._entering = entering
        self._native = native
        # By the identity of a variable that only the functions of this export have, or by the address of the function.
        self._names: dict[int, Told] = {}
        self._native_names: dict[int, Told] = {}
        self._entry: tuple[FrameType | None, int] | None = None
        # Of this entry: since when it is known, and whether it was told to be slow.
        self._since = 0.0
        self._told = False

    def name(self, function: Any, name: Told) -> None:
        """Say the export's name of a function that enters the guest and lives as long as the instance."""
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__, strict=True):
            if variable in _VARIABLES:
                self._names[id(cell.cell_contents)] = name

    def name_native(self, address: int, name: Told) -> None:
        """Say the name of a function that machine code enters by its address."""
        self._native_names[address] = name

    def forget(self) -> None:
        """Let go of what it has seen. Called on any thread, also while it is looking."""
        self._entry = None

    def seen(self, frame: FrameType | None) -> bytes | None:
        """A guest runs, entered by ``frame`` or one around it; gives why it is to be interrupted, or None."""
        self._watchdog.beat()
        now = time.monotonic()
        entry, known = self._find(frame), self._entry
        if known is None or entry[0] is not known[0] or entry[1] != known[1]:
            self._since, self._told, self._entry = now, False, entry
            return None
        ran, limit = now - self._since, self._limit
        if limit.seconds and ran >= limit.seconds:
            self.forget()
            name = self._name(entry[0])
            return f"{INTERRUPTED}{name} ran for {ran * 1000:.0f} ms, {limit.told_as}".encode()
        if limit.slow_seconds and ran >= limit.slow_seconds and not self._told:
            self._told = True
            limit.on_slow(self._name(entry[0]), ran)
        return None

    def _find(self, frame: FrameType | None) -> tuple[FrameType | None, int]:
        number = self._native.count
        if number & 1:
            return None, number
        assert frame is not None
        innermost, found = frame, None
        while frame is not None:
            if frame.f_code in self._entering:
                found = frame
            frame = frame.f_back
        return (innermost, innermost.f_lasti) if found is None else (found, 0)

    def _name(self, frame: FrameType | None) -> str:
        if frame is None:
            told = self._native_names.get(self._native.function, "it")
        else:
            found = frame.f_locals
            told = next((name for each in _VARIABLES if (name := self._names.get(id(found.get(each))))), "it")
        return told if isinstance(told, str) else told()


class Guarded(Ticking, Protocol):
    """The engine of guarded stores, which the watchdog ticks."""

    @property
    def limits_time(self) -> bool:
        """Whether it can interrupt a guest at all."""
        ...

    def guarded(self, guard: Guard) -> None:
        """There is one guard more."""
        ...


def guard(
    store: wasmtime.Store,
    limit: TimeLimit | None,
    failure: Failure,
    engine: Guarded,
    entering: frozenset[CodeType],
    native: NativeEntry,
) -> Guard | None:
    """Set the time limit of a new store; without one it runs as long as it likes.

    ``engine`` is what the watchdog ticks, ``entering`` and ``native`` as in `Guard`.
    """
    context = store._context()
    if limit is None or not (limit.seconds or limit.slow_seconds) or not engine.limits_time:
        _set_deadline(context, c_uint64(_NEVER))
        return None
    watchdog = Watchdog.of_process()
    made = Guard(limit, watchdog, entering, native)

    def on_epoch(_context: int, _data: int, delta: Any, kind: Any) -> int:
        try:
            delta[0] = 1
            kind[0] = _CONTINUE
            reason = made.seen(sys._getframe().f_back)
        except BaseException as error:  # the signal handlers of Python run here too
            failure.error, failure.source = error, "the time limit"
            reason = f"{INTERRUPTED}it failed".encode()
        return _new_error(reason) if reason else 0

    callback = _Callback(on_epoch)
    store.asgi_wasm_callback = callback  # type: ignore[attr-defined]  # it must live as long as the store
    _set_callback(store.ptr(), callback, None, None)
    # At once: the watchdog may be asleep, and the first look at the guest wakes it.
    _set_deadline(context, c_uint64(0))
    engine.guarded(made)
    parts = limit.seconds / _TICKS, limit.slow_seconds / _SLOW_TICKS
    watchdog.watch(engine, min(LONGEST_PERIOD, *(part for part in parts if part)))
    return made
