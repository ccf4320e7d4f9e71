"""Memory that loops in several threads share: nothing is lost, at the finest grain at which Python changes threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from asgi_wasm.services.stores.memory import MemoryQueues, MemorySharedData, MemoryState, MemoryStore
from asgi_wasm.services.stores.memory_metrics import MemoryMetrics
from tests.driving import until
from tests.services.stores.listening import Listener, all_heard

THREADS, TIMES = 4, 2000


@pytest.fixture(autouse=True)
def eager_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_compare_and_swap() -> None:
    data = MemorySharedData()
    data.set("vm", b"count", b"0", 0)

    def increment() -> None:
        for _ in range(TIMES):
            while True:
                found = data.get("vm", b"count")
                assert found is not None
                if data.set("vm", b"count", b"%d" % (int(found[0]) + 1), found[1]):
                    break

    in_threads(increment)
    assert data.get("vm", b"count") == (b"%d" % (THREADS * TIMES), THREADS * TIMES + 1)


def test_queues() -> None:
    queues = MemoryQueues(lambda callback: None)
    token = queues.register("vm", b"q", None)  # type: ignore[arg-type]  # nobody is woken
    taken: list[bytes] = []

    def put_and_take() -> None:
        for number in range(TIMES):
            queues.enqueue(token, b"%d" % number)
            value = queues.dequeue(token)
            assert value is not None
            taken.append(value)

    in_threads(put_and_take)
    assert len(taken) == THREADS * TIMES
    assert queues._kept.queues[token].size == 0
    assert queues.dequeue(token) is None


def test_names_of_queues_are_made_once() -> None:
    queues = MemoryQueues(lambda callback: None)
    tokens: list[int] = []

    def register() -> None:
        for number in range(50):
            tokens.append(queues.register("vm", b"%d" % number, None))  # type: ignore[arg-type]  # nobody is woken

    in_threads(register)
    assert sorted(tokens) == sorted(list(range(1, 51)) * THREADS)


def test_metrics() -> None:
    metrics = MemoryMetrics()

    def count() -> None:
        for _ in range(TIMES):
            metrics.counter_add("p", "hits", 1)
            metrics.gauge_add("p", "level", 1)
            metrics.observe("p", "size", 2)

    in_threads(count)
    total = THREADS * TIMES
    assert (metrics.counters["p", "hits"], metrics.gauges["p", "level"]) == (total, total)
    assert metrics.histogram("p", "size") == (total, 2 * total)


async def test_the_owner_before_hears_of_what_one_that_failed_was_told_of() -> None:
    """The workers of two event loops, one of whose plugins has failed and is not back."""
    state = MemoryState()
    one, other = MemoryStore(state=state), MemoryStore(state=state)
    await one.start()
    await other.start()
    heir, failed, fresh = Listener(other), Listener(one), Listener(one)
    token = other.queues.register("vm", b"q", heir.root)
    one.queues.register("vm", b"q", failed.root)
    other.queues.enqueue(token, b"1")
    await until(lambda: failed.heard == [token])
    failed.root.vm.failure = "it trapped"
    other.queues.enqueue(token, b"2")
    await until(lambda: heir.heard == [token] * 2)
    one.queues.register("vm", b"q", fresh.root)
    other.queues.enqueue(token, b"3")
    await until(lambda: fresh.heard == [token])
    assert await all_heard(heir, other, one) == [token] * 2
    assert await all_heard(fresh, one, other) == [token]


async def test_one_that_failed_after_another_took_over_hears_again_of_what_it_was_told_of() -> None:
    state = MemoryState()
    one, other = MemoryStore(state=state), MemoryStore(state=state)
    await one.start()
    await other.start()
    failed, fresh = Listener(one), Listener(one)
    token = one.queues.register("vm", b"q", failed.root)
    one.queues.enqueue(token, b"1")
    await until(lambda: failed.heard == [token])
    other.queues.register("vm", b"q", Listener(other).root)
    failed.root.vm.failure = "it trapped"
    one.queues.register("vm", b"q", fresh.root)
    await until(lambda: fresh.heard == [token])
