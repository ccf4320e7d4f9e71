"""Metrics of one name as one metric, whichever plugins define it: as in Envoy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asgi_wasm.host.abi import MetricType
    from asgi_wasm.host.ports import Metrics

# Whose metrics they are for what is behind.
_NOBODY = ""


class NamelessMetrics:
    """`host.ports.Metrics` that forwards to ``inner`` without saying whose they are."""

    def __init__(self, inner: Metrics) -> None:
        self._inner = inner

    def counter_add(self, plugin: str, name: str, value: int) -> None:
        """To all plugins' counter."""
        self._inner.counter_add(_NOBODY, name, value)

    def gauge_set(self, plugin: str, name: str, value: int) -> None:
        """Of all plugins' gauge."""
        self._inner.gauge_set(_NOBODY, name, value)

    def gauge_add(self, plugin: str, name: str, value: int) -> None:
        """To all plugins' gauge."""
        self._inner.gauge_add(_NOBODY, name, value)

    def observe(self, plugin: str, name: str, value: int) -> None:
        """In all plugins' histogram."""
        self._inner.observe(_NOBODY, name, value)

    def known(self, plugin: str, kind: MetricType, name: str) -> int:
        """Of all plugins' counter or gauge."""
        return self._inner.known(_NOBODY, kind, name)

    def value(self, plugin: str, kind: MetricType, name: str) -> int:
        """Of all plugins' counter or gauge."""
        return self._inner.value(_NOBODY, kind, name)
