"""An entry into a guest that lasts too long is interrupted, and nothing else is."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from types import FrameType
from typing import Any

import pytest
import wasmtime

from asgi_wasm.engines import watchdog
from asgi_wasm.engines.base import Engine, HostFunction, Instance, TimeLimit
from asgi_wasm.engines.wasmtime import interruption
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


@pytest.fixture(autouse=True)
def _only_where_it_is_kept(engine: Engine) -> None:
    if not engine.limits_time:
        pytest.skip("the engine cannot interrupt a guest")


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
    with pytest.raises(TrapError, match=rf"interrupted, since {name} ran for \d+ ms, and the limit is 0\.2") as caught:
        call(instance, name, *range(arity))
    assert time.monotonic() - began >= LIMIT
    assert caught.value.__cause__ is None
    # The same instance would go on too, though its host does not let it; and others saw nothing.
    assert call(instance, "short", 1) == 2
    assert call(neighbour, "short", 1) == 2


def test_the_start_section_is_interrupted(engine: Engine) -> None:
    module = engine.compile(bytes(wasmtime.wat2wasm("(module (func $f (loop $l (br $l))) (start $f))")))
    with pytest.raises(TrapError, match=r"interrupted, since it ran for"):
        module.instantiate({}, memory_limit=1 << 20, time_limit=TimeLimit(LIMIT, 0, Slow(), "x"))


def test_many_short_entries_are_none_that_is_long(engine: Engine) -> None:
    """Also when each is entered by the same line of the same function."""
    instance = start(engine)
    function = instance.function("short")
    assert function is not None
    end = time.monotonic() + 3 * LIMIT
    while time.monotonic() < end:
        assert function(1) == 2


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


def test_without_a_limit_nothing_is_interrupted(engine: Engine) -> None:
    slow = Slow()
    instance = start(engine, limit=0, slow=LIMIT, on_slow=slow)
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
    time.sleep(3 * LIMIT)
    assert thread.is_alive()
    stop.set()
    thread.join(30)
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

    instance = start(engine, host)
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
