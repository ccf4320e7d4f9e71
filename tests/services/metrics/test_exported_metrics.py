"""Plugins' metrics on their way to Prometheus: what they read back does not change, and nothing fails a hostcall."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_wasm.host.abi import MetricType
from asgi_wasm.services.clock import SystemClock
from asgi_wasm.services.metrics import names as names_module
from asgi_wasm.services.metrics.exported import ExportedMetrics
from asgi_wasm.services.metrics.host import PrometheusHostMetrics
from asgi_wasm.services.metrics.registry import MetricRegistry, process_registry
from asgi_wasm.services.stores.memory_metrics import MemoryMetrics
from asgi_wasm.specs import MetricsSpec, TagRule
from tests.services.metrics.scraping import Scrape, scrape

TAGGED = MetricsSpec(enabled=True, rules=(TagRule("code", re.compile(r"(\.(\d+))")),), buckets=(1.0, 10.0))


async def scraped(*, openmetrics: bool = False) -> Scrape:
    return await scrape(openmetrics=openmetrics)


@pytest.fixture
def metrics(store: MetricRegistry) -> ExportedMetrics:
    return ExportedMetrics(MemoryMetrics(), store, TAGGED)


async def test_counter(metrics: ExportedMetrics) -> None:
    metrics.counter_add("p", "hits.200", 2)
    metrics.counter_add("p", "hits.200", 3)
    metrics.counter_add("p", "hits.404", 1)
    found = await scraped()
    assert found.types["hits"] == "counter"
    assert found.get("hits_total", plugin="p", code="200") == 5
    assert found.get("hits_total", plugin="p", code="404") == 1
    assert metrics.value("p", MetricType.COUNTER, "hits.200") == 5


async def test_gauge_wraps_below_zero_as_what_plugins_read_back(metrics: ExportedMetrics) -> None:
    metrics.gauge_set("p", "level", 7)
    metrics.gauge_add("p", "level", -3)
    assert (await scraped()).get("level", plugin="p") == metrics.value("p", MetricType.GAUGE, "level") == 4
    metrics.gauge_add("p", "level", -5)
    assert metrics.value("p", MetricType.GAUGE, "level") == 2**64 - 1
    assert (await scraped()).get("level", plugin="p") == float(2**64 - 1)
    metrics.gauge_add("p", "level", 3)
    assert (await scraped()).get("level", plugin="p") == metrics.value("p", MetricType.GAUGE, "level") == 2


async def test_histogram(metrics: ExportedMetrics) -> None:
    for value in (1, 2, 100):
        metrics.observe("p", "size", value)
    found = await scraped()
    buckets = [found.get("size_bucket", plugin="p", le=le) for le in ("1.0", "10.0", "+Inf")]
    assert (buckets, found.get("size_sum", plugin="p"), found.get("size_count", plugin="p")) == ([1, 2, 3], 103, 3)


async def test_histogram_has_envoys_buckets(store: MetricRegistry) -> None:
    ExportedMetrics(MemoryMetrics(), store, MetricsSpec(enabled=True)).observe("p", "size", 1)
    bounds = [dict(labels)["le"] for labels in (await scraped()).all("size_bucket")]
    assert (bounds[0], bounds[-2], len(bounds)) == ("0.5", "3.6e+06", 20)


async def test_names_that_become_one_add_up(metrics: ExportedMetrics) -> None:
    metrics.counter_add("p", "a.b", 1)
    metrics.counter_add("p", "a_b_total", 2)
    metrics.gauge_set("p", "g.a", 4)
    metrics.gauge_set("p", "g:a", 5)
    found = await scraped()
    assert found.get("a_b_total", plugin="p") == 3
    assert found.get("g_a", plugin="p") == 9


async def test_one_name_with_several_sets_of_labels(metrics: ExportedMetrics) -> None:
    metrics.counter_add("p", "hits", 1)
    metrics.counter_add("p", "hits.200", 2)
    assert (await scraped(openmetrics=True)).all("hits_total") == {
        frozenset({("plugin", "p")}): 1,
        frozenset({("plugin", "p"), ("code", "200")}): 2,
    }


async def test_one_name_with_several_types(metrics: ExportedMetrics) -> None:
    metrics.counter_add("p", "thing", 1)
    metrics.gauge_set("p", "thing", 2)
    metrics.gauge_set("p", "thing_total", 3)
    metrics.observe("p", "thing", 4)
    metrics.gauge_set("p", "other_count", 5)
    metrics.gauge_set("p", "last_created", 7)
    metrics.observe("p", "other", 6)
    found = await scraped(openmetrics=True)
    assert found.get("thing_total", plugin="p") == 1
    assert found.get("thing_gauge", plugin="p") == 2
    assert found.get("thing_total_gauge", plugin="p") == 3
    assert found.get("thing_histogram_sum", plugin="p") == 4
    assert found.get("other_count", plugin="p") == 5
    assert found.get("last_created", plugin="p") == 7
    assert found.get("other_histogram_sum", plugin="p") == 6


async def test_taken_twice_over(metrics: ExportedMetrics, caplog: pytest.LogCaptureFixture) -> None:
    metrics.counter_add("p", "thing", 1)
    metrics.counter_add("p", "thing_gauge", 1)
    metrics.gauge_set("p", "thing", 2)
    metrics.gauge_set("p", "thing", 3)
    assert metrics.value("p", MetricType.GAUGE, "thing") == 3
    assert (await scraped()).names == {"thing_total", "thing_gauge_total"}
    metrics.close()
    assert caplog.messages == ["plugin 'p': metric 'thing' is not exported: its name is another metric's already"]


async def test_the_hosts_names_are_not_for_plugins(store: MetricRegistry) -> None:
    host = PrometheusHostMetrics(store, SystemClock())
    metrics = ExportedMetrics(MemoryMetrics(), store, TAGGED)
    metrics.gauge_set("p", "asgi_wasm_requests_total", 9)
    metrics.counter_add("p", "asgi_wasm_traps", 9)
    found = await scraped()
    assert found.get("asgi_wasm_requests_total_gauge", plugin="p") == 9
    assert found.get("asgi_wasm_traps_total", plugin="p") is None
    assert found.get("asgi_wasm_traps_counter_total", plugin="p") == 9
    host.close()


async def test_too_many_names(
    metrics: ExportedMetrics, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names_module, "MAX_NAMES", 3)
    for number in range(10):
        metrics.counter_add("hostile", f"n{number}x", 1)
    metrics.counter_add("hostile", "n0x", 1)
    metrics.counter_add("other", "n9x", 1)
    found = await scraped()
    assert found.names == {"n0x_total", "n1x_total", "n2x_total", "n9x_total"}
    assert found.get("n0x_total", plugin="hostile") == 2
    assert metrics.value("hostile", MetricType.COUNTER, "n9x") == 1
    assert caplog.messages == ["plugin 'hostile': it has 3 metrics: further ones are not exported"]


async def test_too_long_a_name(metrics: ExportedMetrics, caplog: pytest.LogCaptureFixture) -> None:
    metrics.gauge_set("p", "a" * 1024, 1)
    metrics.gauge_set("p", "a" * 1025, 1)
    metrics.gauge_add("p", "a" * 1025, 1)
    assert (await scraped()).names == {"a" * 1024}
    assert metrics.value("p", MetricType.GAUGE, "a" * 1025) == 2
    assert caplog.messages == ["plugin 'p': metrics with names over 1024 characters are not exported"]


def test_failing_exporter_fails_no_hostcall(
    metrics: ExportedMetrics, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MetricRegistry, "family", full)
    metrics.counter_add("p", "a", 1)
    metrics.observe("p", "b", 1)
    assert metrics.value("p", MetricType.COUNTER, "a") == 1
    assert caplog.messages == ["plugin 'p': metric 'a' is not exported: OSError: [Errno 28] No space left on device"]


async def test_two_middlewares_and_a_restart(metrics: ExportedMetrics, store: MetricRegistry) -> None:
    other = ExportedMetrics(MemoryMetrics(), store, TAGGED)
    for number, each in enumerate((metrics, other), start=1):
        each.counter_add("p", "hits", number)
        each.gauge_set("p", "level", number)
    assert (await scraped()).get("level", plugin="p") == 3
    metrics.close()
    assert (await scraped()).get("level", plugin="p") == 2
    other.close()
    # Late, from a stream that outlived its middleware.
    other.gauge_add("p", "level", 1)
    other.gauge_add("p", "late", 1)
    found = await scraped()
    assert (found.get("level", plugin="p"), found.get("late", plugin="p")) == (None, None)
    assert found.get("hits_total", plugin="p") == 3
    again = ExportedMetrics(MemoryMetrics(), store, TAGGED)
    again.gauge_set("p", "level", 5)
    again.counter_add("p", "hits", 1)
    found = await scraped()
    assert (found.get("level", plugin="p"), found.get("hits_total", plugin="p")) == (5, 4)


async def test_great_gauges_of_two_middlewares_are_exact(metrics: ExportedMetrics, store: MetricRegistry) -> None:
    other = ExportedMetrics(MemoryMetrics(), store, TAGGED)
    other.gauge_set("p", "level", 3)
    metrics.gauge_set("p", "level", 2**64 - 1)
    metrics.gauge_set("p", "level", 1)
    assert (await scraped()).get("level", plugin="p") == 4


OPERATIONS = st.tuples(
    st.sampled_from(["counter_add", "gauge_set", "gauge_add", "observe"]),
    st.one_of(st.binary(max_size=40), st.sampled_from([b"a", b"a_total", b"a.1", b"a_count", b"a_bucket", b"a_gauge"])),
    st.integers(0, 2**64 - 1),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(OPERATIONS, max_size=30))
async def test_any_bytes_as_names_in_any_types_never_raise(operations: list[tuple[str, bytes, int]]) -> None:
    process_registry.cache_clear()
    inner, plain = MemoryMetrics(), MemoryMetrics()
    metrics = ExportedMetrics(inner, process_registry(), TAGGED)
    for operation, name, value in operations:
        for target in (metrics, plain):
            getattr(target, operation)("p", name.decode("utf-8", "replace"), value)
    assert (inner.counters, inner.gauges, inner.histograms) == (plain.counters, plain.gauges, plain.histograms)
    # Both formats are parsed whole, and have no series twice.
    assert (await scraped()).names >= (await scraped(openmetrics=True)).names
    metrics.close()
    assert "gauge" not in {(await scraped()).types[name] for name in (await scraped()).types}
