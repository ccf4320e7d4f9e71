"""Limits of what a plugin logs, and of what outlives a request."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from asgi_wasm.host.abi import LogLevel, MetricType
from asgi_wasm.host.codecs.wire import PropertyValue
from asgi_wasm.host.ports import LimitReachedError, LogOrigin
from asgi_wasm.limits import PluginLimits, StoreLimits
from asgi_wasm.services.stores.memory import MemoryQueues, MemorySharedData
from asgi_wasm.services.stores.memory_metrics import MemoryMetrics
from tests.host.guest import OK, Calls, in_phase, plugin
from tests.host.limited import CALL, INTERNAL_FAILURE, acts, counting
from tests.host.world import World


@pytest.mark.parametrize(
    ("size", "line"), [(9, b"x" * 9), (10, b"x" * 10), (11, b"x" * 10 + b"... (11 bytes in all)")], ids=str
)
def test_a_long_line_is_cut(size: int, line: bytes) -> None:
    def act(calls: Calls) -> Any:
        address, _ = calls.host.store(b"y" + b"x" * size)
        iov = address.to_bytes(4, "little"), size.to_bytes(4, "little")
        # By both ways in: the line without its first letter.
        vectors, _ = calls.host.store((address + 1).to_bytes(4, "little") + iov[1])
        calls.wasi("fd_write", 1, vectors, 1, vectors)
        return calls("proxy_log", LogLevel.INFO, b"x" * size)

    answer, reached, world = acts("proxy_on_tick", act, log_line_bytes=10)
    assert answer == (OK,)
    assert [words for _, _, words in world.log.words] == [line, line]
    assert reached == (["log_line_bytes"] * 2 if size > 10 else [])


def test_lines_of_a_second() -> None:
    world, metrics, clock = counting()

    def tick(calls: Calls) -> Any:
        for _ in range(5):
            calls("proxy_log", LogLevel.INFO, b"one")
        clock.now += 999_999_999
        calls("proxy_log", LogLevel.INFO, b"two")
        clock.now += 1
        return calls("proxy_log", LogLevel.INFO, b"three")

    assert in_phase("proxy_on_tick", tick, world=world, limits=PluginLimits(log_lines_per_second=3)) == (OK,)
    assert [words for _, _, words in world.log.words] == [b"one"] * 3 + [b"three"]
    assert [sentence for _, _, sentence in world.log.hosts] == [
        "logs more than 3 lines a second (limits.log_lines_per_second): drops the rest",
        "3 log lines were dropped: limits.log_lines_per_second is 3",
    ]
    assert metrics.reached == [("guest", "log_lines_per_second")] * 3


def test_lines_that_nobody_keeps_do_not_count() -> None:
    world, metrics, _ = counting()
    world.log.lowest = LogLevel.WARN

    def tick(calls: Calls) -> Any:
        for _ in range(5):
            calls("proxy_log", LogLevel.DEBUG, b"debug")
        return calls("proxy_log", LogLevel.WARN, b"warning")

    in_phase("proxy_on_tick", tick, world=world, limits=PluginLimits(log_lines_per_second=1))
    assert [words for _, _, words in world.log.words] == [b"warning"]
    assert metrics.reached == []


@pytest.mark.parametrize("lowest", LogLevel)
def test_a_plugin_has_a_level_of_its_own(lowest: LogLevel) -> None:
    """Of what it says, by both ways; and of what the host says of its hostcalls, but for errors."""
    world = World()

    def tick(calls: Calls) -> Any:
        for level in LogLevel:
            calls("proxy_log", level, b"log")
        for fd, line in ((1, b"out"), (2, b"err")):
            vectors, _ = calls.host.store(struct.pack("<2I", *calls.host.store(line)))
            calls.wasi("fd_write", fd, vectors, 1, vectors)
        for code in (0, 1):
            calls.wasi("proc_exit", code)
        return (OK,)

    assert in_phase("proxy_on_tick", tick, world=world, log_level=int(lowest)) == (OK,)
    said = [*((level, b"log") for level in LogLevel), (LogLevel.INFO, b"out"), (LogLevel.ERROR, b"err")]
    assert [(level, words) for _, level, words in world.log.words] == [each for each in said if each[0] >= lowest]
    of_exits = [(LogLevel.DEBUG, "called proc_exit(0)"), (LogLevel.ERROR, "called proc_exit(1)")]
    kept = [each for each in of_exits if each[0] >= min(lowest, LogLevel.ERROR)]
    assert [(level, line) for _, level, line in world.log.hosts] == kept


@pytest.mark.parametrize("refused", [b"one", b"two"])
def test_where_something_was_refused(refused: bytes) -> None:
    """What the host says of a hostcall, it says of the request in which it was."""
    world = World()
    seen: Mapping[tuple[bytes, ...], PropertyValue] = {(b"request", b"id"): b"r-1"}

    def act(calls: Calls) -> Any:
        if refused == b"one":
            return calls("proxy_set_property", refused, b"12345")
        return calls("proxy_http_call", refused, CALL, b"", b"", 1)

    in_phase("proxy_on_request_headers", act, world=world, limits=PluginLimits(property_bytes=3), attributes=seen)
    assert [line for _, _, line in world.log.hosts] and world.log.origins == [LogOrigin("id", 2, b"r-1")]


def test_the_log_is_told_once_a_vm() -> None:
    def act(calls: Calls) -> Any:
        return [calls("proxy_set_property", b"one", b"12345")[0] for _ in range(3)]

    _, reached, world = acts("proxy_on_request_headers", act, property_bytes=3)
    assert reached == ["property_bytes"] * 3
    assert [sentence for _, _, sentence in world.log.hosts] == [
        "what it asked for was refused: limits.property_bytes is 3 (said once)"
    ]


# --- what outlives a request


def test_shared_data_in_memory() -> None:
    data = MemorySharedData(StoreLimits(shared_data_keys=2, shared_data_bytes=10))
    assert data.set("vm", b"one", b"1", 0)
    assert data.set("vm", b"two", b"123", 0)
    for key, value, limit in ((b"six", b"", "shared_data_keys"), (b"one", b"12", "shared_data_bytes")):
        with pytest.raises(LimitReachedError) as caught:
            data.set("vm", key, value, 0)
        assert caught.value.limit == limit
    assert (data.get("vm", b"six"), data.get("vm", b"one")) == (None, (b"1", 1))
    # Each vm_id has its own; what shrinks is taken, and leaves room.
    assert data.set("other", b"one", b"1234567", 0)
    assert data.set("vm", b"two", b"1", 0)
    assert data.set("vm", b"one", b"123", 0)
    # A mismatch is a mismatch, whatever the size.
    assert not data.set("vm", b"one", b"1234567890", 99)


def test_queues_in_memory() -> None:
    world = World()
    owner = plugin(world, {}).root(b"")
    queues = MemoryQueues(world.posted.append, StoreLimits(queues=1, queue_length=2, queue_bytes=5))
    token = queues.register("vm", b"one", owner)
    assert queues.register("vm", b"one", owner) == token
    assert queues.register("other", b"one", owner) != token
    with pytest.raises(LimitReachedError, match="queues is 1"):
        queues.register("vm", b"two", owner)
    assert queues.enqueue(token, b"12345")
    with pytest.raises(LimitReachedError, match="queue_bytes"):
        queues.enqueue(token, b"1")
    assert queues.enqueue(token, b"")
    with pytest.raises(LimitReachedError, match="queue_length"):
        queues.enqueue(token, b"")
    assert (queues.dequeue(token), queues.dequeue(token), queues.dequeue(token)) == (b"12345", b"", None)
    assert queues.enqueue(token, b"54321")


@pytest.mark.parametrize(
    ("limits", "reached"),
    [({"stored_metrics": 3}, "stored_metrics"), ({"stored_metric_bytes": 7}, "stored_metric_bytes")],
    ids=["count", "bytes"],
)
def test_metrics_in_memory(limits: dict[str, int], reached: str) -> None:
    """By plugin, whichever VM it is; a name of several types is several metrics."""
    metrics = MemoryMetrics(StoreLimits(**limits))
    metrics.counter_add("p", "aa", 1)
    metrics.gauge_add("p", "aa", -1)
    metrics.observe("p", "bb", 1)
    for act in (metrics.counter_add, metrics.gauge_set, metrics.gauge_add, metrics.observe):
        with pytest.raises(LimitReachedError) as caught:
            act("p", "cc", 1)
        assert caught.value.limit == reached
    metrics.counter_add("p", "aa", 1)
    metrics.gauge_set("p", "aa", 5)
    metrics.observe("p", "bb", 1)
    assert (metrics.value("p", MetricType.COUNTER, "aa"), metrics.value("p", MetricType.GAUGE, "aa")) == (2, 5)
    assert (metrics.histogram("p", "bb"), metrics.value("p", MetricType.COUNTER, "cc")) == ((2, 2), 0)
    metrics.counter_add("other", "cc", 1)


def test_metrics_of_vms_that_replace_each_other() -> None:
    """Each fails, and the next one defines others."""
    world, metrics, _ = counting()
    world.metrics.limits = StoreLimits(stored_metrics=10)
    answers: list[Any] = []

    def configure(calls: Calls, *_: int) -> int:
        for _number in range(4):
            _, metric = calls("proxy_define_metric", MetricType.COUNTER, b"n%d" % len(answers))
            answers.append(calls("proxy_increment_metric", metric, 1))
        return 1

    def tick(*_: Any) -> None:
        raise ValueError

    for _ in range(4):
        root = plugin(world, {"proxy_on_configure": configure, "proxy_on_tick": tick}).root(b"")
        root.notify("proxy_on_tick")
    assert answers == [(OK,)] * 10 + [(INTERNAL_FAILURE,)] * 6
    assert len(world.metrics.counters) == 10
    assert metrics.reached == [("guest", "stored_metrics")] * 6


def test_a_port_that_is_full_answers_the_hostcall() -> None:
    world, metrics, _ = counting()
    world.ports = replace(world.ports, shared_data=MemorySharedData(StoreLimits(shared_data_keys=0)))

    def act(calls: Calls) -> Any:
        return calls("proxy_set_shared_data", b"key", b"value", 0)

    assert in_phase("proxy_on_tick", act, world=world) == (INTERNAL_FAILURE,)
    assert metrics.reached == [("guest", "shared_data_keys")]
