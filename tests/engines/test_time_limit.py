"""An entry into a guest that lasts too long is interrupted, and nothing else is."""

from __future__ import annotations

import threading
import time

import pytest

from asgi_wasm.engines.base import Engine, TimeLimit
from asgi_wasm.engines.libwasmer import LibwasmerEngine
from asgi_wasm.errors import TrapError
from tests.engines.limited import LIMIT, Slow, call, start
from tests.engines.wat import wasm


@pytest.fixture(autouse=True)
def _only_where_it_is_kept(engine: Engine) -> None:
    if not engine.limits_time:
        pytest.skip("the engine cannot interrupt a guest")


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
    module = engine.compile(wasm("(module (func $f (loop $l (br $l))) (start $f))"))
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
