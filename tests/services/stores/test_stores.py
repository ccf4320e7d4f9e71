"""The same semantics over every store (that of proxy-wasm-cpp-host's `shared_data.cc` and `shared_queue.cc`)."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.host.abi import MetricType
from asgi_wasm.services.stores.store import Store
from tests.driving import until
from tests.services.stores.conftest import Place
from tests.services.stores.listening import Listener, all_heard

LONG = b"k" * 2000
U64 = (1 << 64) - 1


async def test_values_and_cas_numbers(place: Place) -> None:
    async with place.stores() as (one, other):
        data, seen = one.shared_data, other.shared_data
        assert data.get("vm", b"key") is None
        assert data.set("vm", b"key", b"1", 77), "a key that is missing takes any number"
        found = seen.get("vm", b"key")
        assert found is not None
        value, cas = found
        assert value == b"1"
        assert 0 < cas < 1 << 32
        assert seen.set("vm", b"key", b"2", cas)
        assert not data.set("vm", b"key", b"3", cas), "the number is an old one now"
        found = data.get("vm", b"key")
        assert found is not None
        assert found[0] == b"2"
        assert found[1] not in (0, cas)
        assert data.set("vm", b"key", b"4", 0), "0 does not compare"
        assert (seen.get("vm", b"key") or (b"", 0))[0] == b"4"


@pytest.mark.parametrize("key", [b"", b"\0", b"a:b", b"\xff\xfe", LONG])
@pytest.mark.parametrize("value", [b"", b"\0\r\n\xff", b"v" * 100_000])
async def test_any_bytes(place: Place, key: bytes, value: bytes) -> None:
    async with place.stores() as (one, other):
        assert one.shared_data.set("vm", key, value, 0)
        assert (other.shared_data.get("vm", key) or (None, 0))[0] == value
        assert other.shared_data.get("vm", key + b"x") is None


async def test_namespaces(place: Place) -> None:
    async with place.stores() as (one, other):
        for vm_id in ("", "a", "a:b", "a%3Ab", "ä"):
            assert one.shared_data.set(vm_id, b"b:c", vm_id.encode(), 0)
        for vm_id in ("", "a", "a:b", "a%3Ab", "ä"):
            assert (other.shared_data.get(vm_id, b"b:c") or (None, 0))[0] == vm_id.encode()
        # Nor does a part of one name pass for a part of the other.
        assert other.shared_data.get("a:b", b"c") is None
        one.queues.register("a", b"b:c", Listener(one).root)
        assert other.queues.resolve("a:b", b"c") is None


async def test_queue(place: Place) -> None:
    async with place.stores() as (one, other):
        assert other.queues.resolve("vm", LONG) is None
        token = one.queues.register("vm", LONG, Listener(one).root)
        assert 0 < token < 1 << 31
        assert other.queues.resolve("vm", LONG) == token
        assert other.queues.dequeue(token) is None
        values = [b"first", b"", b"\0\r\n", b"v" * 100_000, b"last"]
        for value in values:
            assert other.queues.enqueue(token, value)
        assert [one.queues.dequeue(token) for _ in values] == values
        assert one.queues.dequeue(token) is None
        unknown = token % 1000 + 1
        assert not one.queues.enqueue(unknown, b"x")
        with pytest.raises(KeyError):
            one.queues.dequeue(unknown)


async def test_owner_is_told_once_for_each_value_and_never_inside_of_enqueue(place: Place) -> None:
    async with place.stores() as (one, other):
        owner = Listener(one)
        token = one.queues.register("vm", b"q", owner.root)
        for store in (one, other, other):
            store.queues.enqueue(token, b"x")
        assert owner.heard == []
        await until(lambda: len(owner.heard) == 3)
        assert await all_heard(owner, one, other) == [token] * 3


async def test_the_last_registrant_owns_and_finds_what_is_queued_untold(place: Place) -> None:
    async with place.stores() as (one, other):
        first, last = Listener(one), Listener(other)
        token = one.queues.register("vm", b"q", first.root)
        one.queues.enqueue(token, b"before")
        await until(lambda: first.heard == [token])
        assert other.queues.register("vm", b"q", last.root) == token
        assert await all_heard(last, other, one) == []
        last.heard.clear()
        one.queues.enqueue(token, b"after")
        await until(lambda: last.heard == [token])
        assert [other.queues.dequeue(token), other.queues.dequeue(token)] == [b"before", b"after"]
        # Registering once more takes it back.
        one.queues.register("vm", b"q", first.root)
        other.queues.enqueue(token, b"x")
        await until(lambda: len(first.heard) == 2)
        assert last.heard == [token]


async def test_two_queues_at_one_place_get_two_tokens(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes may meet; at the end of the range the next token is 1, not 0."""
    for module in ("lmdb", "redis"):
        monkeypatch.setattr(f"asgi_wasm.services.stores.{module}.queues.first_token", lambda identity: (1 << 31) - 1)

    async with place.stores() as (one, other):
        names = [b"a", b"b", b"c"]
        tokens = [one.queues.register("vm", name, Listener(one).root) for name in names]
        assert len(set(tokens)) == 3
        assert all(tokens)
        assert [other.queues.resolve("vm", name) for name in names] == tokens
        assert other.queues.resolve("vm", b"d") is None


async def test_metrics(place: Place) -> None:
    async with place.stores() as (one, other):
        assert one.metrics.value("p", MetricType.COUNTER, "n") == 0
        one.metrics.counter_add("p", "n", 5)
        other.metrics.counter_add("p", "n", 2)
        one.metrics.gauge_set("p", "n", 10)
        other.metrics.gauge_add("p", "n", -3)
        for store, value in ((one, 4), (other, 5), (other, U64 - 1)):
            store.metrics.observe("p", "n", value)
        # What no port asks for: what plugins observe is read in Prometheus.
        histogram: Any = one.metrics
        assert histogram.histogram("p", "n") == (3, 7)
        assert histogram.histogram("p", "other") == (0, 0)
        assert one.metrics.value("p", MetricType.COUNTER, "n") == 7
        assert one.metrics.value("p", MetricType.GAUGE, "n") == 7
        assert one.metrics.value("other", MetricType.GAUGE, "n") == 0
        # The other one has added last. In Redis each knows its own part of a gauge, and asks for no more.
        assert other.metrics.known("p", MetricType.COUNTER, "n") == 7
        assert other.metrics.known("p", MetricType.GAUGE, "n") == (U64 - 2 if "redis" in place.url else 7)
        assert other.metrics.known("p", MetricType.COUNTER, "other") == 0


async def test_metrics_wrap_at_64_bits(place: Place) -> None:
    async with place.stores() as (one, other):
        one.metrics.gauge_add("p", "below zero", -1)
        assert other.metrics.value("p", MetricType.GAUGE, "below zero") == U64
        one.metrics.gauge_set("p", "high", U64)
        other.metrics.gauge_add("p", "high", 3)
        assert one.metrics.value("p", MetricType.GAUGE, "high") == 2
        one.metrics.counter_add("p", "high", (1 << 63) - 1)
        other.metrics.counter_add("p", "high", 1)
        assert one.metrics.value("p", MetricType.COUNTER, "high") == 1 << 63


async def test_stop_twice_and_start_again(place: Place) -> None:
    async with place.stores(1) as (store,):
        store.shared_data.set("vm", b"k", b"v", 0)
        await store.stop()
        await store.stop()
    async with place.stores(1) as (store,):
        kept = store.shared_data.get("vm", b"k")
        assert (kept is None) == place.in_memory


async def test_gauges_are_those_of_living_workers(shared_place: Place) -> None:
    async with shared_place.stores() as (one, other):
        one.metrics.gauge_add("p", "n", 5)
        other.metrics.gauge_add("p", "n", 1)
        one.metrics.counter_add("p", "n", 5)
        assert other.metrics.value("p", MetricType.GAUGE, "n") == 6
        # Each sets its own part.
        one.metrics.gauge_set("p", "n", 7)
        assert other.metrics.value("p", MetricType.GAUGE, "n") == 8
        await one.stop()
        await until(lambda: other.metrics.value("p", MetricType.GAUGE, "n") == 1)
        assert other.metrics.value("p", MetricType.COUNTER, "n") == 5


async def until_it_is_gone(stopped: Store, other: Store) -> None:
    """A server notices a closed connection in its own time; where there is none, others know at once."""
    if hasattr(stopped.queues, "connections"):
        channel, call = stopped.queues.connections._channel, other.queues.connections.call  # type: ignore[attr-defined]
        await until(lambda: call("PUBSUB", "NUMSUB", channel)[1] == 0)


async def test_who_registers_hears_of_what_no_living_worker_was_told_of(shared_place: Place) -> None:
    async with shared_place.stores() as (one, other):
        token = one.queues.register("vm", b"q", Listener(one).root)
        one.queues.enqueue(token, b"1")
        one.queues.enqueue(token, b"2")
        await one.stop()
        owner = Listener(other)
        await until_it_is_gone(one, other)
        other.queues.register("vm", b"q", owner.root)
        await until(lambda: owner.heard == [token] * 2)


@pytest.mark.parametrize("noticed_by", ["enqueue", "tend of the heir", "tend of another", "register"])
async def test_what_an_owner_that_is_gone_was_told_of_the_next_one_hears_of(
    shared_place: Place, noticed_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever notices that it is gone: no value waits until somebody enqueues another."""
    monkeypatch.setattr("asgi_wasm.services.stores.lmdb.store._TEND_SECONDS", 3600)
    monkeypatch.setattr("asgi_wasm.services.stores.redis.connections._TEND_SECONDS", 3600)

    async with shared_place.stores(3) as (first, heir, other):
        listening, last = Listener(heir), Listener(other)
        token = other.queues.register("vm", b"q", last.root)
        heir.queues.register("vm", b"q", listening.root)
        first.queues.register("vm", b"q", Listener(first).root)
        for value in (b"1", b"2", b"3"):
            other.queues.enqueue(token, value)
        await first.stop()
        await until_it_is_gone(first, other)
        if noticed_by == "enqueue":
            other.queues.enqueue(token, b"4")
        elif noticed_by == "register":
            other.queues.register("vm", b"q", last.root)
        else:
            await tend(heir if noticed_by == "tend of the heir" else other)
        told, count = (last if noticed_by == "register" else listening), 3 + (noticed_by == "enqueue")
        await until(lambda: told.heard == [token] * count)
        heard = await all_heard(listening, heir, other), await all_heard(last, other, heir)
        assert sum(map(len, heard)) == count


async def tend(store: Store) -> None:
    """What a store does from time to time."""
    done = (store.queues._tend if hasattr(store.queues, "_tend") else store.queues.tend)()  # type: ignore[attr-defined]
    if done is not None:
        await done


async def test_a_plugin_that_comes_after_one_that_failed_hears_of_what_that_was_told_of(place: Place) -> None:
    async with place.stores() as (one, other):
        failed, fresh = Listener(one), Listener(one)
        token = one.queues.register("vm", b"q", failed.root)
        other.queues.enqueue(token, b"1")
        other.queues.enqueue(token, b"2")
        await until(lambda: failed.heard == [token] * 2)
        failed.root.vm.failure = "it trapped"
        one.queues.register("vm", b"q", fresh.root)
        await until(lambda: fresh.heard == [token] * 2)
        # Once more is no reason to be told again.
        one.queues.register("vm", b"q", fresh.root)
        assert await all_heard(fresh, one, other) == [token] * 2


async def test_an_owner_that_failed_resigns_until_it_is_back(shared_place: Place) -> None:
    """Whoever registered before it, in whichever worker, hears of what is there."""
    async with shared_place.stores() as (one, other):
        heir, failed, fresh = Listener(other), Listener(one), Listener(one)
        token = other.queues.register("vm", b"q", heir.root)
        one.queues.register("vm", b"q", failed.root)
        other.queues.enqueue(token, b"1")
        other.queues.enqueue(token, b"2")
        await until(lambda: failed.heard == [token] * 2)
        failed.root.vm.failure = "it trapped"
        await tend(one)
        await until(lambda: heir.heard == [token] * 2)
        await tend(one)
        other.queues.enqueue(token, b"3")
        await until(lambda: heir.heard == [token] * 3)
        # It is back, and owns: the other one knows of all that is there.
        one.queues.register("vm", b"q", fresh.root)
        one.queues.enqueue(token, b"4")
        await until(lambda: fresh.heard == [token])
        await tend(one)
        await tend(other)
        assert await all_heard(heir, other, one) == [token] * 3
        assert await all_heard(fresh, one, other) == [token]


async def test_a_sole_owner_that_failed_hears_of_all_when_it_is_back(shared_place: Place) -> None:
    async with shared_place.stores() as (one, other):
        failed, fresh = Listener(one), Listener(one)
        token = one.queues.register("vm", b"q", failed.root)
        failed.root.vm.failure = "it trapped"
        other.queues.enqueue(token, b"1")
        await tend(one)
        other.queues.enqueue(token, b"2")
        await tend(one)
        one.queues.register("vm", b"q", fresh.root)
        # Perhaps of one of them twice: word of it was under way.
        await until(lambda: len(fresh.heard) >= 2)
