"""The watchdog's ticks where machine code makes them."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator
from ctypes import CFUNCTYPE, c_void_p, cast

import pytest

from asgi_wasm.accelerator import load
from asgi_wasm.engines import watchdog
from asgi_wasm.engines.wasmtime import WasmtimeEngine
from asgi_wasm.engines.watchdog import NativeTick, Watchdog
from asgi_wasm.errors import TrapError
from tests.accelerator.apps import needs_accelerator
from tests.engines.limited import call, start
from tests.waiting import wait_until

pytestmark = needs_accelerator
_Function = CFUNCTYPE(None, c_void_p)


class Counted:
    """An engine that counts its ticks."""

    def __init__(self, *, native: bool = True) -> None:
        self.native, self.by_python = 0, 0
        self._function = _Function(self._native)
        self._offers = native

    def _native(self, _argument: int | None) -> None:
        self.native += 1

    def tick(self) -> None:
        self.by_python += 1

    @property
    def native_tick(self) -> NativeTick | None:
        return NativeTick((cast(self._function, c_void_p).value or 0, 0), self) if self._offers else None

    def rest(self) -> None:
        pass


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watchdog]:
    """The process's watchdog, with a ticker. Its thread sleeps at the end."""
    made = Watchdog()
    made.tick_by(load().Ticker)
    monkeypatch.setattr(Watchdog, "_of_process", (os.getpid(), made))
    yield made
    monkeypatch.setattr(watchdog, "QUIET_SECONDS", 0.3)
    wait_until(lambda: made.is_asleep)


def test_a_guest_is_interrupted_and_the_thread_sleeps_while_nobody_runs(
    ticking: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "QUIET_SECONDS", 0.3)
    monkeypatch.setattr(WasmtimeEngine, "tick", lambda _: pytest.fail("Python is not to tick"))
    instance = start(WasmtimeEngine())
    for _ in range(2):
        with pytest.raises(TrapError, match="interrupted"):
            call(instance, "loop", 1, 2, 3)
        wait_until(lambda: ticking.is_asleep)
    assert call(instance, "short", 1) == 2


def test_who_comes_in_the_middle_of_a_round_is_watched_at_once(ticking: Watchdog) -> None:
    patient, hasty = Counted(), Counted()
    ticking.watch(patient, 0.1)
    wait_until(lambda: patient.native)
    before = patient.native
    ticking.watch(hasty, 0.001)
    wait_until(lambda: hasty.native)
    # Else not before the end of a round, which is of ten.
    assert patient.native - hasty.native - before <= 2
    assert (patient.by_python, hasty.by_python) == (0, 0)


def test_python_ticks_where_an_engine_knows_no_other_way(ticking: Watchdog) -> None:
    one, other = Counted(), Counted(native=False)
    ticking.watch(one, 0.01)
    ticking.watch(other, 0.01)
    wait_until(lambda: one.by_python and other.by_python)
    assert other.native == 0


def test_nothing_is_kept_of_an_engine_that_is_gone(ticking: Watchdog) -> None:
    """But for the round that is under way."""
    engine = Counted()
    ticking.watch(engine, 0.05)
    left = weakref.ref(engine)
    del engine
    wait_until(lambda: gc.collect() >= 0 and left() is None)


class LookedAt:
    """A tick in whose reading somebody holds every object that the collector knows, as memory profilers do."""

    def __init__(self, tick: NativeTick) -> None:
        self._tick = tick
        self.held: list[list[object]] = []

    @property
    def call(self) -> tuple[int, int]:
        self.held.append(gc.get_objects())
        return self._tick.call


def test_a_profiler_of_memory_does_not_end_the_thread(ticking: Watchdog, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Counted()
    given = engine.native_tick
    assert given is not None
    looked_at = LookedAt(given)
    monkeypatch.setattr(Counted, "native_tick", looked_at)
    ticking.watch(engine, 0.01)
    wait_until(lambda: engine.native)
    looked_at.held.clear()


def test_a_mistake_does_not_end_the_thread(ticking: Watchdog, caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(Counted):
        def tick(self) -> None:
            super().tick()
            if self.by_python < 3:
                raise RuntimeError("a bug")

    engine = Wrong(native=False)
    ticking.watch(engine, 0.01)
    wait_until(lambda: engine.by_python > 3)
    assert caplog.text.count("the watchdog goes on after a mistake of its own (said once): a bug") == 1


def test_there_is_one_ticker(ticking: Watchdog) -> None:
    ticking.tick_by(lambda: pytest.fail("it has one"))
