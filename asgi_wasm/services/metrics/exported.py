"""Exports what plugins count, standing before what they read back; needs the extra ``metrics``: imported late."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from prometheus_client import Counter, Histogram

from asgi_wasm.host.abi import MetricType
from asgi_wasm.host.ports import Metrics
from asgi_wasm.services.metrics.names import Admission, legal_name, series_of
from asgi_wasm.services.metrics.registry import (
    COUNTER,
    GAUGE,
    HISTOGRAM,
    Family,
    GaugeShare,
    Labels,
    MetricRegistry,
    NameTakenError,
)
from asgi_wasm.specs import MetricsSpec

_U64 = 0xFFFF_FFFF_FFFF_FFFF

_Cell = TypeVar("_Cell", Counter, GaugeShare, Histogram)
_Key = tuple[str, str]


class ExportedMetrics:
    """`host.ports.Metrics` that forwards to ``inner``, which plugins read back, and exports what passes.

    What it exports is what passed in this process since it started; nothing of that can fail a hostcall.
    """

    def __init__(
        self,
        inner: Metrics,
        store: MetricRegistry,
        spec: MetricsSpec,
        admission: Admission | None = None,
        *,
        is_alone: bool = False,
    ) -> None:
        """``is_alone`` says that nobody else feeds ``inner``: then gauges are exported as they are there."""
        self._inner = inner
        self._is_alone = is_alone
        self._store = store
        self._spec = spec
        # None for what is not exported.
        self._counters: dict[_Key, Counter | None] = {}
        self._gauges: dict[_Key, GaugeShare | None] = {}
        self._histograms: dict[_Key, Histogram | None] = {}
        self._admission = admission or Admission()
        self._closed = False
        # The workers of one middleware may share this, each in a thread of its own.
        self._lock = Lock()

    # --- the port

    def counter_add(self, plugin: str, name: str, value: int) -> None:
        """Add to a counter."""
        self._inner.counter_add(plugin, name, value)
        counter = self._cell(self._counters, plugin, name, COUNTER, Family.counter)
        if counter is not None:
            counter.inc(value)

    def gauge_set(self, plugin: str, name: str, value: int) -> None:
        """Set a gauge."""
        self._inner.gauge_set(plugin, name, value)
        share = self._cell(self._gauges, plugin, name, GAUGE, Family.share)
        if share is not None:
            with self._lock:
                share.set(self._now(plugin, name, value))

    def _now(self, plugin: str, name: str, value: int) -> int:
        """What a gauge shows that came to ``value`` here."""
        return self._inner.value(plugin, MetricType.GAUGE, name) if self._is_alone else value & _U64

    def gauge_add(self, plugin: str, name: str, value: int) -> None:
        """Add to a gauge, which below zero wraps to a great number: Envoy's gauges have no sign."""
        self._inner.gauge_add(plugin, name, value)
        share = self._cell(self._gauges, plugin, name, GAUGE, Family.share)
        if share is not None:
            with self._lock:
                share.set(self._now(plugin, name, share.value + value))

    def observe(self, plugin: str, name: str, value: int) -> None:
        """Add one observation to a histogram."""
        self._inner.observe(plugin, name, value)
        histogram = self._cell(self._histograms, plugin, name, HISTOGRAM, Family.histogram)
        if histogram is not None:
            histogram.observe(value)

    def known(self, plugin: str, kind: MetricType, name: str) -> int:
        """What ``inner`` knows."""
        return self._inner.known(plugin, kind, name)

    def value(self, plugin: str, kind: MetricType, name: str) -> int:
        """What ``inner`` says: with several processes behind it, that is not what this one exports."""
        return self._inner.value(plugin, kind, name)

    def close(self) -> None:
        """Withdraw the gauges. Counters and histograms stay, since theirs may never fall."""
        with self._lock:
            for share in self._gauges.values():
                if share is not None:
                    share.close()
            self._gauges.clear()
            self._closed = True

    # --- from names to cells

    def _cell(
        self,
        cells: dict[_Key, _Cell | None],
        plugin: str,
        name: str,
        kind: str,
        child: Callable[[Family, Labels], _Cell],
    ) -> _Cell | None:
        key = plugin, name
        if key in cells:
            return cells[key]
        with self._lock:
            return cells[key] if key in cells else self._new_cell(cells, plugin, name, kind, child)

    def _new_cell(
        self,
        cells: dict[_Key, _Cell | None],
        plugin: str,
        name: str,
        kind: str,
        child: Callable[[Family, Labels], _Cell],
    ) -> _Cell | None:
        key = plugin, name
        if self._closed or not self._admission.admits(plugin, name):
            return None
        cell: _Cell | None = None
        try:
            series = series_of(plugin, name, self._spec.rules)
            family = self._family(legal_name(series.name, counter=kind == COUNTER), kind)
            if family is None:
                self._admission.warn(plugin, f"metric {name!r} is not exported: its name is another metric's already")
            else:
                cell = child(family, series.labels)
        except Exception as error:
            # A full disk in multi-process mode, for instance; the plugin is not to blame, and goes on.
            self._admission.warn(plugin, f"metric {name!r} is not exported: {type(error).__name__}: {error}")
        cells[key] = cell
        return cell

    def _family(self, name: str, kind: str) -> Family | None:
        """The family of this name; when that is of another type or the host's, of the name with its type behind it."""
        for candidate in (name, f"{name}_{kind}"):
            try:
                return self._store.family(candidate, kind, f"Defined by a plugin as a {kind}.", self._spec.buckets)
            except NameTakenError:
                continue
        return None
