"""`metrics.per_plugin: false`: equal names are one metric, as in Envoy."""

from __future__ import annotations

import pytest

from asgi_wasm import metrics_app
from asgi_wasm.host.abi import MetricType
from asgi_wasm.services.metrics.exported import ExportedMetrics
from asgi_wasm.services.metrics.nameless import NamelessMetrics
from asgi_wasm.services.metrics.names import series_of
from asgi_wasm.services.metrics.registry import MetricRegistry
from asgi_wasm.services.stores.memory_metrics import MemoryMetrics
from asgi_wasm.specs import MetricsSpec
from asgi_wasm.testing import Hostcalls
from tests.driving import answering, request
from tests.guests import CONTINUE, Guest, Serve, serve_guests, wrap_guests
from tests.services.metrics.scraping import scrape

__all__ = ["serve_guests", "wrap_guests"]


def counting(name: bytes, read: list[int]) -> Guest:
    """Adds 1 to a counter at each request, and says what it is then."""
    ids: list[int] = []

    def on_configure(api: Hostcalls, *_: int) -> int:
        ids.append(api.define_metric(MetricType.COUNTER, name))
        return 1

    def on_headers(api: Hostcalls, *_: int) -> int:
        api.increment_metric(ids[-1], 1)
        read.append(api.get_metric(ids[-1]))
        return CONTINUE

    return Guest(on_configure=on_configure, on_request_headers=on_headers)


@pytest.mark.parametrize("per_plugin", [True, False])
async def test_plugins_share_a_name_or_not(serve_guests: Serve, per_plugin: bool) -> None:
    read: list[int] = []

    # What was exported once stays there while the process lives.
    name = b"own_hits" if per_plugin else b"hits_of_all"
    metrics, guests = {"per_plugin": per_plugin}, (counting(name, read), counting(name, read))
    async with serve_guests(answering(), *guests, metrics=metrics) as middleware:
        await request(middleware)
        lines = (await request(metrics_app)).body.splitlines()
        found = [line for line in lines if line.startswith(name + b"_total")]
        if per_plugin:
            assert found == [b'own_hits_total{plugin="g0"} 1.0', b'own_hits_total{plugin="g1"} 1.0']
        else:
            assert found == [b"hits_of_all_total 2.0"]
    assert read == ([1, 1] if per_plugin else [1, 2])


async def test_exported_without_a_label(store: MetricRegistry) -> None:
    exported = ExportedMetrics(MemoryMetrics(), store, MetricsSpec(enabled=True))
    metrics = NamelessMetrics(exported)
    metrics.counter_add("a", "hits", 1)
    metrics.gauge_set("b", "level", 5)
    metrics.observe("a", "size", 3)
    found = await scrape()
    assert (found.get("hits_total"), found.get("level"), found.get("size_count")) == (1, 5, 1)
    exported.close()
    # A gauge is of the present.
    assert "level" not in (await scrape()).types


def test_each_kind() -> None:
    metrics = NamelessMetrics(MemoryMetrics())
    metrics.counter_add("a", "n", 1)
    metrics.counter_add("b", "n", 2)
    metrics.gauge_set("a", "n", 5)
    metrics.gauge_add("b", "n", 2)
    metrics.observe("a", "n", 1)
    assert metrics.value("c", MetricType.COUNTER, "n") == 3
    assert metrics.value("c", MetricType.GAUGE, "n") == 7
    assert series_of("", "n", ()).labels == ()
