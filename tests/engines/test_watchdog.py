"""Guests that run are looked at: what is told of them, what is let go of, and what is raised meanwhile."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from ctypes import CFUNCTYPE, byref, c_size_t, c_uint64, c_void_p
from types import FrameType

import pytest
from wasmtime import _ffi as ffi

from asgi_wasm.engines import watchdog
from asgi_wasm.engines.base import Engine, HostFunction, TimeLimit
from asgi_wasm.engines.libwasmer import LibwasmerEngine
from asgi_wasm.engines.wasmtime import WasmtimeEngine, interruption
from asgi_wasm.engines.wasmtime.beside import RawNative
from asgi_wasm.engines.wasmtime.interruption import NativeEntry
from asgi_wasm.engines.wasmtime.raw import RawInstance, RawLinker
from asgi_wasm.engines.wasmtime.reports import report
from asgi_wasm.engines.wasmtime.space import SpaceLimits
from asgi_wasm.engines.watchdog import Watchdog
from asgi_wasm.errors import TrapError
from tests.engines.limited import LIMIT, TEXT, Slow, call, start
from tests.engines.wat import wasm
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def _only_where_guests_are_looked_at(engine: Engine) -> None:
    if not engine.limits_time:
        pytest.skip("the engine cannot interrupt a guest")
    if isinstance(engine, LibwasmerEngine):
        pytest.skip("the engine counts instructions, and nobody looks at a guest that runs")


def test_the_watchdog_sleeps_while_nobody_runs_and_wakes_for_who_comes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "QUIET_SECONDS", 0.3)

    def threads() -> int:
        return [each.name for each in threading.enumerate()].count("asgi-wasm watchdog")

    instance = start(engine)
    # Other tests' may be there.
    before = threads()
    call(instance, "short", 1)
    wait_until(lambda: Watchdog.of_process().is_asleep)
    with pytest.raises(TrapError, match="interrupted"):
        call(instance, "loop", 1, 2, 3)
    fresh = start(engine)
    assert threads() == before
    wait_until(lambda: Watchdog.of_process().is_asleep)
    with pytest.raises(TrapError, match="interrupted"):
        call(fresh, "loop", 1, 2, 3)


def test_without_a_limit_nothing_is_interrupted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever is not let run for long is a new entry then, and is told of again.
    monkeypatch.setattr(watchdog, "QUIET_SECONDS", 60)
    slow = Slow()
    done: list[BaseException] = []

    def run() -> None:
        try:
            call(instance, "calls", 1)
        except TrapError as error:
            done.append(error)

    def host(value: int) -> int:
        if stop.is_set():
            raise KeyError
        return value

    stop = threading.Event()
    instance = start(engine, host, limit=0, slow=LIMIT / 2, on_slow=slow)
    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: slow.told)
    time.sleep(2 * LIMIT)
    assert thread.is_alive()
    stop.set()
    thread.join(60)
    assert [type(error.__cause__) for error in done] == [KeyError]
    assert [name for name, _ in slow.told] == ["calls"], "it is told once"
    assert slow.told[0][1] >= LIMIT / 2


def test_what_is_slow_is_told_once_an_entry(engine: Engine) -> None:
    slow = Slow()
    instance = start(engine, slow=LIMIT / 4, on_slow=slow)
    for _ in range(2):
        call(instance, "short", 1)
        with pytest.raises(TrapError):
            call(instance, "loop", 1, 2, 3)
    assert [name for name, _ in slow.told] == ["loop", "loop"]
    assert all(LIMIT / 4 <= seconds < 20 for _, seconds in slow.told)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RecursionError])
def test_what_is_raised_while_it_looks_ends_the_call(
    engine: Engine, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's signal handlers run there too; no exception may leave a callback."""
    leaked: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda each: leaked.append(each.err_msg))

    def fail(self: object, frame: FrameType | None) -> None:
        raise error

    instance = start(engine)
    with monkeypatch.context() as patch:
        patch.setattr(interruption.Guard, "seen", fail)
        with pytest.raises(TrapError, match=f"the time limit raised {error.__name__}") as caught:
            call(instance, "loop", 1, 2, 3)
    assert isinstance(caught.value.__cause__, error)
    assert call(instance, "short", 1) == 2
    assert leaked == []


def test_what_was_seen_is_let_go_of_when_nobody_runs(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames that entered a guest hold what belongs to a request."""
    monkeypatch.setattr(watchdog, "QUIET_SECONDS", 0.3)

    class Request:
        pass

    def enter(request: Request) -> None:
        call(instance, "once", 1)

    def host(value: int) -> int:
        time.sleep(LIMIT / 2)
        return call(instance, "short", value) or 0

    # Looked at often, and stopped by nobody.
    instance = start(engine, host, limit=30, slow=LIMIT)
    request = Request()
    left = weakref.ref(request)
    enter(request)
    del request
    wait_until(lambda: Watchdog.of_process().is_asleep)
    gc.collect()
    assert left() is None
    instance.close()


def test_what_is_let_go_of_while_it_is_seen_was_no_long_entry() -> None:
    """The watchdog's thread does that after a silence, and the guest may go on at the same time."""

    class Count(int):
        def __ne__(self, other: object) -> bool:
            looking.forget()
            return int.__ne__(self, other)

    class Entry:
        count = Count(1)

    limit = TimeLimit(60, 0, Slow(), "x")
    looking = interruption.Guard(limit, Watchdog(), frozenset(), Entry())  # type: ignore[arg-type]
    assert looking.seen(None) is None
    assert looking.seen(None) is None


class Native:
    """Enters a guest as the accelerator does: by addresses, and from no Python function of the engine's."""

    def __init__(self, engine: Engine, host: HostFunction = lambda each: each) -> None:
        if not isinstance(engine, WasmtimeEngine) or not isinstance(engine.linker, RawLinker):
            pytest.skip("the engine has no addresses")
        module = engine.compile(wasm(TEXT))
        opened = engine.linker.open(module, SpaceLimits(1 << 20), TimeLimit(LIMIT, 0, Slow(), "x"))
        self.failure = opened.failure
        externs = (ffi.wasmtime_extern_t * 1)()
        engine.linker.define(opened, module.imports[0], module.module.imports[0], host, externs[0])
        self.instance = RawInstance(engine.linker.invoke, opened, module, externs)
        self.native = RawNative(engine.linker, opened, self.instance, guest=0)
        self.entry = NativeEntry.from_address(self.native.entry)
        self.took = 0.0
        self.invoke = CFUNCTYPE(c_size_t, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p)(self.native.call)

    def call_until(self, end: float, name: str) -> str:
        """Enter again and again by the same instruction; the report of an entry that failed, or nothing.

        The last one ``took`` so many seconds.
        """
        function, slots, trap = self.native.function(name), (c_uint64 * 8)(), c_void_p()
        while (began := time.monotonic()) < end:
            self.entry.count += 1
            self.entry.function = function
            error = self.invoke(self.native.store, function, slots, 3, byref(trap))
            self.entry.count += 1
            self.took = time.monotonic() - began
            if error or trap:
                # The limit may be over while the allocator runs: then it is the host function that fails.
                return report(error, trap) + str(self.failure.take())
        return ""


def test_entries_of_machine_code_are_known_from_each_other(engine: Engine) -> None:
    native, end = Native(engine), time.monotonic() + 3 * LIMIT
    while time.monotonic() < end:
        assert native.call_until(end, "short") == "" or native.took >= LIMIT


def test_machine_code_is_not_left_in_a_guest_for_ever(engine: Engine) -> None:
    """Nor by a guest that makes the host enter it again: the allocator is part of the entry around it."""
    native = Native(engine, lambda _: call(native.instance, "malloc", 8))
    for name in ("loop", "calls"):
        text = native.call_until(time.monotonic() + 30, name)
        assert f"wasm trap: interrupted, since {name} ran for" in text
    assert native.entry.count == 4
    assert call(native.instance, "short", 1) == 2
