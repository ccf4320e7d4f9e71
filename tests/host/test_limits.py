"""Each limit: at it, one below and one above; what is refused is not done, is counted, and is said once a VM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from asgi_wasm.host.abi import LogLevel, MapType, MetricType, ProxyStatus
from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.host.effects import HttpCall, SetTickPeriod
from asgi_wasm.host.host_metrics import NoHostMetrics
from asgi_wasm.host.ports import LimitReachedError
from asgi_wasm.limits import PluginLimits, StoreLimits
from asgi_wasm.services.stores.memory import MemoryQueues, MemorySharedData
from asgi_wasm.services.stores.memory_metrics import MemoryMetrics
from tests.host.guest import NOT_FOUND, OK, OUTSIDE, REQUEST_HEADERS, Calls, Exchange, World, in_phase, plugin

INTERNAL_FAILURE, INVALID_MEMORY_ACCESS = ProxyStatus.INTERNAL_FAILURE, ProxyStatus.INVALID_MEMORY_ACCESS
REQUEST = MapType.HTTP_REQUEST_HEADERS
SIZE = sum(len(name) + len(value) for name, value in REQUEST_HEADERS)
CALL = encode_pairs([(b":method", b"GET"), (b":path", b"/"), (b":authority", b"a")])


class CountingMetrics(NoHostMetrics):
    """`host.host_metrics.HostMetrics` that keeps which limits were reached."""

    def __init__(self) -> None:
        self.reached: list[tuple[str, str]] = []

    def limit_reached(self, plugin: str, limit: str) -> None:
        self.reached.append((plugin, limit))


class Clock:
    """`host.ports.Clock` that a test moves."""

    def __init__(self) -> None:
        self.now = 5_000_000_000

    def realtime(self) -> int:
        return self.now

    def monotonic(self) -> int:
        return self.now


def counting() -> tuple[World, CountingMetrics, Clock]:
    world, metrics, clock = World(), CountingMetrics(), Clock()
    world.ports = replace(world.ports, host_metrics=metrics, clock=clock)
    return world, metrics, clock


def acts(phase: str, act: Callable[[Calls], Any], **limits: int) -> tuple[Any, list[str], World]:
    """What ``act`` gives in this callback under these limits; the limits that were reached; the ports."""
    world, metrics, _ = counting()
    result = in_phase(phase, act, world=world, limits=PluginLimits(**limits))
    assert all(plugin == "guest" for plugin, _ in metrics.reached)
    return result, [limit for _, limit in metrics.reached], world


# --- header maps


@pytest.mark.parametrize(("room", "status"), [(11, OK), (10, OK), (9, INTERNAL_FAILURE)])
@pytest.mark.parametrize("hostcall", ["add", "replace"])
def test_bytes_of_a_header_map(hostcall: str, room: int, status: ProxyStatus) -> None:
    def act(calls: Calls) -> Any:
        answer = calls(f"proxy_{hostcall}_header_map_value", REQUEST, b"x-new", b"12345")
        return answer, calls("proxy_get_header_map_size", REQUEST)

    (answer, size), reached, _ = acts("proxy_on_request_headers", act, header_bytes=SIZE + room)
    assert answer == (status,)
    assert size == (OK, SIZE + (10 if status is OK else 0))
    assert reached == ([] if status is OK else ["header_bytes"])


def test_a_header_map_that_is_full_may_shrink_and_change() -> None:
    def act(calls: Calls) -> Any:
        return [
            calls("proxy_replace_header_map_value", REQUEST, b"x-two", b"4"),
            calls("proxy_add_header_map_value", REQUEST, b"x-three", b""),
            calls("proxy_add_header_map_value", REQUEST, b"x-four", b""),
            calls("proxy_remove_header_map_value", REQUEST, b"x-one"),
            calls("proxy_add_header_map_value", REQUEST, b"x-four", b""),
        ]

    # `x-two` came twice, so replacing it leaves room for one more.
    answers, reached, _ = acts("proxy_on_request_headers", act, header_count=len(REQUEST_HEADERS))
    assert answers == [(OK,), (OK,), (INTERNAL_FAILURE,), (OK,), (OK,)]
    assert reached == ["header_count"]


@pytest.mark.parametrize(("count", "status"), [(2, OK), (3, OK), (4, INTERNAL_FAILURE)])
def test_all_headers_at_once(count: int, status: ProxyStatus) -> None:
    pairs = [(b"x-%d" % index, b"1") for index in range(count)]

    def act(calls: Calls) -> Any:
        answer = calls("proxy_set_header_map_pairs", REQUEST, encode_pairs(pairs))
        return answer, calls("proxy_get_header_map_size", REQUEST)

    for limits in ({"header_count": 3}, {"header_bytes": 12}):
        (answer, size), reached, _ = acts("proxy_on_request_headers", act, **limits)
        assert answer == (status,)
        assert size == (OK, 4 * count if status is OK else SIZE)
        assert reached == ([] if status is OK else [*limits])


def test_what_was_there_before_any_plugin_is_no_mistake_of_the_plugin() -> None:
    def act(calls: Calls) -> Any:
        return calls("proxy_replace_header_map_value", REQUEST, b"x-one", b"2")

    assert acts("proxy_on_request_headers", act, header_bytes=10, header_count=1)[:2] == ((OK,), [])


# --- properties


@pytest.mark.parametrize(("room", "status"), [(9, OK), (8, OK), (7, INTERNAL_FAILURE)])
def test_bytes_of_properties(room: int, status: ProxyStatus) -> None:
    def act(calls: Calls) -> Any:
        first = calls("proxy_set_property", b"one", b"1")
        again = calls("proxy_set_property", b"one", b"2")
        return first, again, calls("proxy_set_property", b"two", b"3"), calls("proxy_get_property", b"two")

    answers, reached, _ = acts("proxy_on_request_headers", act, property_bytes=room)
    assert answers == ((OK,), (OK,), (status,), (OK, b"3") if status is OK else (NOT_FOUND,))
    assert reached == ([] if status is OK else ["property_bytes"])


def test_a_value_over_the_limit_is_told_from_one_outside_memory() -> None:
    def act(calls: Calls) -> Any:
        path, size = calls.host.store(b"one")
        return [calls.raw("proxy_set_property", path, size, at, 9) for at in (path, OUTSIDE)]

    answers, reached, _ = acts("proxy_on_request_headers", act, property_bytes=8)
    assert answers == [INTERNAL_FAILURE, INVALID_MEMORY_ACCESS]
    assert reached == ["property_bytes"]


# --- metrics


@pytest.mark.parametrize(
    ("limits", "reached"), [({"metrics": 3}, "metrics"), ({"metric_bytes": 6}, "metric_bytes")], ids=["count", "bytes"]
)
def test_metrics(limits: dict[str, int], reached: str) -> None:
    def act(calls: Calls) -> Any:
        define = [calls("proxy_define_metric", MetricType.COUNTER, name) for name in (b"aa", b"bb", b"cc", b"dd")]
        # One that is known is known still, so that a plugin which defines its metrics in each request goes on.
        return *define, calls("proxy_define_metric", MetricType.COUNTER, b"bb")

    answers, refused, _ = acts("proxy_on_configure", act, **limits)
    assert answers == ((OK, 4), (OK, 8), (OK, 12), (INTERNAL_FAILURE,), (OK, 8))
    assert refused == [reached]


def test_a_metric_of_another_type_is_another_metric() -> None:
    def act(calls: Calls) -> Any:
        return [calls("proxy_define_metric", kind, b"a") for kind in (MetricType.COUNTER, MetricType.GAUGE)]

    assert acts("proxy_on_configure", act, metrics=1)[:2] == ([(OK, 4), (INTERNAL_FAILURE,)], ["metrics"])


# --- calls


@pytest.mark.parametrize(("most", "made"), [(1, 1), (2, 2), (3, 3)])
def test_calls_of_one_callback(most: int, made: int) -> None:
    def act(calls: Calls) -> Any:
        return [calls("proxy_http_call", b"known", CALL, b"", b"", 1000)[0] for _ in range(3)]

    answers, reached, world = acts("proxy_on_tick", act, callback_calls=most)
    assert answers == [OK] * made + [INTERNAL_FAILURE] * (3 - made)
    assert reached == ["callback_calls"] * (3 - made)
    assert len([effect for effect in world.effects if isinstance(effect, HttpCall)]) == made


def test_bytes_of_the_calls_of_one_callback() -> None:
    def act(calls: Calls) -> Any:
        body = bytes(100 - len(CALL))
        return [calls("proxy_http_call", b"known", CALL, sent, b"", 1000)[0] for sent in (body, body, b"")]

    answers, reached, _ = acts("proxy_on_tick", act, callback_call_bytes=200)
    assert (answers, reached) == ([OK, OK, INTERNAL_FAILURE], ["callback_call_bytes"])


def test_each_callback_has_its_calls() -> None:
    world, metrics, _ = counting()
    answers = []

    def call(calls: Calls, *_: int) -> int:
        answers.append(calls("proxy_http_call", b"known", CALL, b"", b"", 1000)[0])
        return 0

    limits = PluginLimits(callback_calls=1)
    made = plugin(world, {"proxy_on_request_headers": call, "proxy_on_response_headers": call}, limits=limits)
    exchange = Exchange(world, made)
    exchange.request()
    exchange.respond()
    assert (answers, metrics.reached) == ([OK, OK], [])


# --- answers, ticks, requests


@pytest.mark.parametrize(("size", "status"), [(9, OK), (10, OK), (11, INTERNAL_FAILURE)])
def test_a_local_response(size: int, status: ProxyStatus) -> None:
    world, metrics, _ = counting()
    answers = []

    def reply(calls: Calls, *_: int) -> int:
        answers.append(calls("proxy_send_local_response", 403, b"", bytes(size), b"", 0xFFFF_FFFF)[0])
        return 0

    made = plugin(world, {"proxy_on_request_headers": reply}, limits=PluginLimits(local_reply_bytes=10))
    exchange = Exchange(world, made)
    exchange.request()
    assert answers == [status]
    assert exchange.chain.answered_locally == (status is OK)
    assert metrics.reached == ([] if status is OK else [("guest", "local_reply_bytes")])


@pytest.mark.parametrize(("asked", "period"), [(0, 0), (1, 20), (19, 20), (20, 20), (21, 21)])
def test_the_period_of_ticks(asked: int, period: int) -> None:
    def act(calls: Calls) -> Any:
        return calls("proxy_set_tick_period_milliseconds", asked)

    answer, reached, world = acts("proxy_on_configure", act, tick_ms=20)
    assert answer == (OK,)
    assert [effect.milliseconds for effect in world.effects if isinstance(effect, SetTickPeriod)] == [period]
    assert reached == (["tick_ms"] if 0 < asked < 20 else [])


def test_requests_at_once() -> None:
    world, metrics, _ = counting()
    # The root context counts as well.
    made = plugin(world, {"proxy_on_request_headers": lambda *_: 1}, limits=PluginLimits(contexts=3))
    exchanges = [Exchange(world, made) for _ in range(3)]
    for exchange in exchanges:
        exchange.request()
    assert [exchange.client.status for exchange in exchanges] == [None, None, b"503"]
    assert metrics.reached == [("guest", "contexts")]
    for exchange in exchanges:
        exchange.chain.finish()
    again = Exchange(world, made)
    again.request()
    assert again.client.status is None


# --- the log


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
