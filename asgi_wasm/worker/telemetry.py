"""What plugins and host count, and the app that shows it to Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from asgi_wasm.asgi.metrics_app import MetricsApp
from asgi_wasm.errors import MissingExtraError
from asgi_wasm.host.host_metrics import NO_HOST_METRICS, HostMetrics
from asgi_wasm.host.ports import Clock, Metrics
from asgi_wasm.services.metrics.nameless import NamelessMetrics

if TYPE_CHECKING:
    from asgi_wasm.services.stores.store import Store
    from asgi_wasm.specs import HostSpec
    from asgi_wasm.worker.shared import Shared


class Telemetry:
    """What plugins and host count, exported where the settings say so; else nothing is loaded or called."""

    def __init__(self, spec: HostSpec, clock: Clock, store: Store, shared: Shared) -> None:
        """Raises `MissingExtraError`, or `SettingsError` for a multi-process directory that is not there."""
        self.metrics: Metrics = store.metrics if spec.store.metrics else shared.memory.metrics
        self.host_metrics: HostMetrics = NO_HOST_METRICS
        self._closing: list[Callable[[], None]] = []
        if spec.metrics.enabled:
            self._export(spec, clock, store, shared)
        if not spec.metrics.per_plugin:
            self.metrics = NamelessMetrics(self.metrics)

    def _export(self, spec: HostSpec, clock: Clock, store: Store, shared: Shared) -> None:
        if spec.metrics.opentelemetry:
            self._tell_opentelemetry(spec, clock, store, shared)
            return
        _require_prometheus("the settings say 'metrics'")
        from asgi_wasm.services.metrics.exported import ExportedMetrics
        from asgi_wasm.services.metrics.host import PrometheusHostMetrics
        from asgi_wasm.services.metrics.registry import process_registry

        self.host_metrics = host_metrics = PrometheusHostMetrics(process_registry(), clock, lambda: store.is_away)
        self._closing.append(host_metrics.close)
        if spec.store.metrics:
            self.metrics = exported = ExportedMetrics(store.metrics, process_registry(), spec.metrics, shared.admission)
            self._closing.append(exported.close)
        else:
            self.metrics = shared.exported(spec.metrics)

    def _tell_opentelemetry(self, spec: HostSpec, clock: Clock, store: Store, shared: Shared) -> None:
        if find_spec("opentelemetry") is None:
            raise MissingExtraError(
                "the settings say 'metrics.exporter: opentelemetry': pip install 'asgi-wasm[opentelemetry]'"
            )
        from asgi_wasm.services.metrics.opentelemetry import OtelHostMetrics, OtelMetrics

        self.host_metrics = host_metrics = OtelHostMetrics(clock, is_away=lambda: store.is_away)
        self._closing.append(host_metrics.close)
        self.metrics = OtelMetrics(self.metrics, spec.metrics, shared.admission)

    def close(self) -> None:
        """Withdraw what describes the present: gauges."""
        for close in self._closing:
            close()


def _require_prometheus(why: str) -> None:
    if find_spec("prometheus_client") is None:
        raise MissingExtraError(f"{why}: pip install 'asgi-wasm[metrics]'")


async def _expose(accept: str, compress: bool) -> tuple[list[tuple[bytes, bytes]], bytes]:
    _require_prometheus("metrics are asked for")
    from asgi_wasm.services.metrics.registry import expose

    return await expose(accept, compress)


metrics_app = MetricsApp(_expose)
