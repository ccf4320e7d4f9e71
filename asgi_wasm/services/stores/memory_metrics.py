"""Plugins' metrics in this process's memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from threading import Lock

from asgi_wasm.host.abi import MetricType
from asgi_wasm.host.ports import LimitReachedError
from asgi_wasm.limits import DEFAULT_STORE_LIMITS, StoreLimits

_U64 = 0xFFFF_FFFF_FFFF_FFFF


class MemoryMetrics:
    """`host.ports.Metrics`: counters and gauges wrap as Envoy's unsigned 64-bit stats do."""

    def __init__(self, limits: StoreLimits = DEFAULT_STORE_LIMITS) -> None:
        self.limits = limits
        self.counters: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.gauges: defaultdict[tuple[str, str], int] = defaultdict(int)
        # Count and sum; buckets are the exporter's affair.
        self.histograms: defaultdict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
        # Number, and bytes of names, by plugin.
        self._taken: defaultdict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
        self._lock = Lock()

    def counter_add(self, plugin: str, name: str, value: int) -> None:
        """Add to a counter. Raises `LimitReachedError`, as the others do."""
        with self._lock:
            self._admit(self.counters, plugin, name)
            self.counters[plugin, name] = (self.counters[plugin, name] + value) & _U64

    def gauge_set(self, plugin: str, name: str, value: int) -> None:
        """Set a gauge."""
        with self._lock:
            self._admit(self.gauges, plugin, name)
            self.gauges[plugin, name] = value

    def gauge_add(self, plugin: str, name: str, value: int) -> None:
        """Add to a gauge; ``value`` may be negative."""
        with self._lock:
            self._admit(self.gauges, plugin, name)
            self.gauges[plugin, name] = (self.gauges[plugin, name] + value) & _U64

    def observe(self, plugin: str, name: str, value: int) -> None:
        """Add one observation to a histogram."""
        with self._lock:
            self._admit(self.histograms, plugin, name)
            count, total = self.histograms[plugin, name]
            self.histograms[plugin, name] = (count + 1, (total + value) & _U64)

    def _admit(self, kept: Mapping[tuple[str, str], object], plugin: str, name: str) -> None:
        """Count a metric in that is not kept yet. With the lock."""
        if (plugin, name) in kept:
            return
        count, size = self._taken[plugin]
        if count >= self.limits.stored_metrics:
            raise LimitReachedError("stored_metrics", self.limits.stored_metrics)
        if size + len(name) > self.limits.stored_metric_bytes:
            raise LimitReachedError("stored_metric_bytes", self.limits.stored_metric_bytes)
        self._taken[plugin] = count + 1, size + len(name)

    def histogram(self, plugin: str, name: str) -> tuple[int, int]:
        """Count and sum of what was observed."""
        return self.histograms.get((plugin, name), (0, 0))

    def known(self, plugin: str, kind: MetricType, name: str) -> int:
        """Its value: nobody else has to be asked."""
        return self.value(plugin, kind, name)

    def value(self, plugin: str, kind: MetricType, name: str) -> int:
        """The value of a counter or gauge."""
        kept = self.counters if kind is MetricType.COUNTER else self.gauges
        return kept.get((plugin, name), 0)
