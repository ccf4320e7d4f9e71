"""What plugins and the host count, as OpenTelemetry's SDK gets it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from asgi_wasm import MissingExtraError, WasmMiddleware
from asgi_wasm.services.stores.memory_metrics import MemoryMetrics
from asgi_wasm.specs import MetricsSpec
from tests.driving import answering, request
from tests.plugins.conftest import PLUGINS

api = pytest.importorskip("opentelemetry.metrics", reason="opentelemetry-api is not installed")
sdk = pytest.importorskip("opentelemetry.sdk.metrics", reason="opentelemetry-sdk is not installed")
export = pytest.importorskip("opentelemetry.sdk.metrics.export", reason="opentelemetry-sdk is not installed")

COUNTER = {
    "name": "counter",
    "file": str(PLUGINS / "counter" / "assemblyscript.wasm"),
    "root_id": "counter",
    "conf": "hits",
    "priority": 2,
}
FAULT = {"name": "fault", "file": str(PLUGINS / "fault_injection" / "c.wasm"), "conf": {"http_status": 418}}


async def points(monkeypatch: pytest.MonkeyPatch, **metrics: Any) -> dict[str, list[Any]]:
    """By metric, what was told of two requests."""
    reader = export.InMemoryMetricReader()
    provider = sdk.MeterProvider([reader])
    monkeypatch.setattr(api, "get_meter", lambda name: provider.get_meter(name))
    told: list[Any] = []

    settings = {"metrics": {"exporter": "opentelemetry", **metrics}, "plugins": [COUNTER, FAULT]}
    async with WasmMiddleware(answering(), settings=settings) as middleware:
        await request(middleware, path="/a")
        await request(middleware, path="/b")
        told.append(reader.get_metrics_data())
    provider.shutdown()
    scopes = [scope for resource in told[0].resource_metrics for scope in resource.scope_metrics]
    return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}


async def test_what_plugins_and_the_host_count(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await points(monkeypatch)
    (requests,) = found["hits.requests"]
    assert (requests.value, dict(requests.attributes)) == (2, {"plugin": "counter"})
    (in_flight,) = found["hits.in_flight"]
    assert in_flight.value == 0
    (lengths,) = found["hits.path_length"]
    assert (lengths.count, lengths.sum) == (2, 4)
    assert {point.attributes["answered_by"]: point.value for point in found["asgi_wasm.requests"]} == {"plugin": 2}
    replies = [point for point in found["asgi_wasm.actions"] if point.attributes["action"] == "local_response"]
    assert [(point.attributes["plugin"], point.value) for point in replies] == [("fault", 2)]
    assert {point.attributes["plugin"] for point in found["asgi_wasm.callback.duration"]} == {"counter", "fault"}
    running = {
        (point.attributes["plugin"], len(point.attributes["sha256"])): point.value
        for point in found["asgi_wasm.plugin.info"]
    }
    assert running == {("counter", 64): 1, ("fault", 64): 1}
    (away,) = found["asgi_wasm.shared_data.away"]
    assert away.value == 0
    memory = {point.attributes["plugin"]: point.value > 0 for point in found["asgi_wasm.vm.memory"]}
    assert memory == {"counter": True, "fault": True}


async def test_labels_and_buckets_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await points(monkeypatch, rules=[{"tag": "kind", "regex": r"(\.(requests))"}], buckets=[1, 5])
    (requests,) = found["hits"]
    assert dict(requests.attributes) == {"plugin": "counter", "kind": "requests"}
    (lengths,) = found["hits.path_length"]
    assert list(lengths.explicit_bounds) == [1, 5]


def test_a_flood_of_names_is_its_plugins_own_affair(monkeypatch: pytest.MonkeyPatch) -> None:
    from asgi_wasm.services.metrics.opentelemetry import OtelMetrics

    reader = export.InMemoryMetricReader()
    provider = sdk.MeterProvider([reader])
    metrics = OtelMetrics(MemoryMetrics(), MetricsSpec(enabled=True), meter=provider.get_meter("p"))
    monkeypatch.setattr("asgi_wasm.services.metrics.names.MAX_NAMES", 3)
    for number in range(10):
        metrics.counter_add("hostile", f"n{number}", 1)
    metrics.counter_add("hostile", "n" * 2000, 1)
    metrics.observe("other", "o", 1)
    ((scope,),) = (resource.scope_metrics for resource in reader.get_metrics_data().resource_metrics)
    assert [metric.name for metric in scope.metrics] == ["n0", "n1", "n2", "o"]
    assert len(metrics._told) == 4
    provider.shutdown()


async def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "asgi_wasm.worker.telemetry.find_spec", lambda name: None if name == "opentelemetry" else find_spec(name)
    )
    settings = {"metrics": {"exporter": "opentelemetry"}, "plugins": [FAULT]}
    with pytest.raises(MissingExtraError, match=r"pip install 'asgi-wasm\[opentelemetry\]'"):
        await WasmMiddleware(answering(), settings=settings).start()
