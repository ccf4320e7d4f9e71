"""An entry into a guest that lasts too long is interrupted, and nothing else is."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from ctypes import CFUNCTYPE, byref, c_size_t, c_uint64, c_void_p
from types import FrameType
from typing import Any

import pytest
import wasmtime
from wasmtime import _ffi as ffi

from asgi_wasm.engines import watchdog
from asgi_wasm.engines.base import Engine, HostFunction, Instance, TimeLimit
from asgi_wasm.engines.libwasmer import LibwasmerEngine
from asgi_wasm.engines.wasmtime import WasmtimeEngine, interruption
from asgi_wasm.engines.wasmtime.beside import RawNative
from asgi_wasm.engines.wasmtime.interruption import NativeEntry
from asgi_wasm.engines.wasmtime.raw import RawInstance, RawLinker
from asgi_wasm.engines.wasmtime.reports import report
from asgi_wasm.engines.wasmtime.space import SpaceLimits
from asgi_wasm.engines.watchdog import Watchdog
from asgi_wasm.errors import TrapError

# Seconds. Much shorter than in real life, and longer than a busy machine takes for a short call.
LIMIT = 0.2

TEXT = """(module (import "e" "host" (func $host (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "short") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
  (func (export "malloc") (param i32) (result i32) (i32.const 8))
  (func (export "loop") (param i32 i32 i32) (loop $l (br $l)))
  (func (export "wide") (param i32 i32 i32 i32 i32) (loop $l (br $l)))
  (func (export "_start") (loop $l (br $l)))
  (func $deep (export "deep") (param i32) (call $deep (local.get 0)) (call $deep (local.get 0)))
  (func (export "calls") (param i32) (loop $l (drop (call $host (local.get 0))) (br $l)))
  (func (export "once") (param i32) (result i32) (call $host (local.get 0))))"""


# What holds too where instructions are counted and nobody looks at a guest that runs.
COUNTED = ("does_not_end", "start_section", "many_short", "allocator", "host_function_that", "several_threads")


@pytest.fixture(autouse=True)
def _only_where_it_is_kept(engine: Engine, request: pytest.FixtureRequest) -> None:
    if not engine.limits_time:
        pytest.skip("the engine cannot interrupt a guest")
    if isinstance(engine, LibwasmerEngine) and not any(part in request.node.name for part in COUNTED):
        pytest.skip("the engine counts instructions, and nobody looks at a guest that runs")


class Slow:
    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def __call__(self, name: str, seconds: float) -> None:
        self.told.append((name, seconds))


def start(
    engine: Engine, host: HostFunction = lambda each: each, limit: float = LIMIT, slow: float = 0, on_slow: Any = None
) -> Instance:
    functions: Mapping[tuple[str, str], HostFunction] = {("e", "host"): host}
    time_limit = TimeLimit(limit, slow, on_slow or Slow(), f"and the limit is {limit}")
    module = engine.compile(bytes(wasmtime.wat2wasm(TEXT)))
    return module.instantiate(functions, memory_limit=1 << 20, time_limit=time_limit)


def call(instance: Instance, name: str, *arguments: int) -> int | None:
    function = instance.function(name)
    assert function is not None
    return function(*arguments)


@pytest.mark.parametrize("name", ["loop", "wide", "_start", "calls"])
def test_what_does_not_end_is_interrupted(engine: Engine, name: str) -> None:
    """Whatever the number of its arguments, by which it is entered in another way."""
    arity = {"loop": 3, "wide": 5, "_start": 0, "calls": 1}[name]
    instance, neighbour = start(engine), start(engine)
    began = time.monotonic()
    with pytest.raises(TrapError, match=rf"since {name} ran for \d+ (ms|instr\w+), and the limit is 0\.2") as caught:
        call(instance, name, *range(arity))
    assert time.monotonic() - began >= LIMIT
    assert caught.value.__cause__ is None
    # The same instance would go on too, though its host does not let it; and others saw nothing.
    assert call(instance, "short", 1) == 2
    assert call(neighbour, "short", 1) == 2


def test_the_start_section_is_interrupted(engine: Engine) -> None:
    module = engine.compile(bytes(wasmtime.wat2wasm("(module (func $f (loop $l (br $l))) (start $f))")))
    # Where instructions are counted, nothing is left of the instance that could tell why.
    words = "unreachable" if isinstance(engine, LibwasmerEngine) else "interrupted, since it ran for"
    with pytest.raises(TrapError, match=words):
        module.instantiate({}, memory_limit=1 << 20, time_limit=TimeLimit(LIMIT, 0, Slow(), "x"))


def test_many_short_entries_are_none_that_is_long(engine: Engine) -> None:
    """Also when each is entered by the same line of the same function."""
    instance = start(engine)
    function = instance.function("short")
    assert function is not None
    end = time.monotonic() + 3 * LIMIT
    while (began := time.monotonic()) < end:
        try:
            assert function(1) == 2
        except TrapError:
            assert time.monotonic() - began >= LIMIT, "it lasted, on a machine that ran others for so long"


def test_the_allocator_is_part_of_the_entry_around_it(engine: Engine) -> None:
    """A guest that makes the host call it again and again has one limit for all of that."""
    instance = start(engine, lambda _: call(instance, "malloc", 8))
    with pytest.raises(TrapError, match="interrupted, since calls ran for"):
        call(instance, "calls", 1)


def test_a_host_function_that_takes_long_is_not_the_guests_fault(engine: Engine) -> None:
    def host(value: int) -> int:
        time.sleep(2 * LIMIT)
        return value

    instance = start(engine, host)
    assert call(instance, "once", 7) == 7


def test_the_watchdog_sleeps_while_nobody_runs_and_wakes_for_who_comes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "QUIET_SECONDS", 0.3)
    instance = start(engine)
    call(instance, "short", 1)
    deadline = time.monotonic() + 30
    while not Watchdog.of_process().is_asleep and time.monotonic() < deadline:
        time.sleep(0.01)
    assert Watchdog.of_process().is_asleep
    assert [each.name for each in threading.enumerate()].count("asgi-wasm watchdog") == 1
    with pytest.raises(TrapError, match="interrupted"):
        call(instance, "loop", 1, 2, 3)
    fresh = start(engine)
    while not Watchdog.of_process().is_asleep and time.monotonic() < deadline:
        time.sleep(0.01)
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
    deadline = time.monotonic() + 30
    while not slow.told and time.monotonic() < deadline:
        time.sleep(0.01)
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


def test_guests_in_several_threads_have_a_limit_each(engine: Engine) -> None:
    results: dict[float, float] = {}

    def run(limit: float) -> None:
        began = time.monotonic()
        with pytest.raises(TrapError, match=f"the limit is {limit}"):
            call(start(engine, limit=limit), "loop", 1, 2, 3)
        results[limit] = time.monotonic() - began

    limits = [LIMIT, 2 * LIMIT, 3 * LIMIT]
    threads = [threading.Thread(target=run, args=(limit,)) for limit in limits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == limits
    assert all(took >= limit for limit, took in results.items())


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
    deadline = time.monotonic() + 30
    while not Watchdog.of_process().is_asleep and time.monotonic() < deadline:
        time.sleep(0.01)
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
        module = engine.compile(bytes(wasmtime.wat2wasm(TEXT)))
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
