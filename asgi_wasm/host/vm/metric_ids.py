"""The ids under which a VM's plugins know their metrics.

Followed: Envoy `source/extensions/common/wasm/context.cc` (`defineMetric`): the low two bits of an id are the metric's
type, and each definition gets a new id, also for a name that was defined before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from asgi_wasm.host.abi import MetricType
from asgi_wasm.host.ports import LimitReachedError

if TYPE_CHECKING:
    from asgi_wasm.limits import PluginLimits

_TYPE_MASK = 3
_ID_STEP = 4


def type_of(metric_id: int) -> int:
    """The `MetricType` in an id; 3 is none."""
    return metric_id & _TYPE_MASK


class MetricIds:
    """Those of one VM."""

    def __init__(self, limits: PluginLimits) -> None:
        self._limits = limits
        self._names: dict[int, str] = {}
        self._counts = [0] * len(MetricType)
        self._bytes = 0

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return iter(self._names.items())

    def name(self, metric_id: int) -> str | None:
        """What was defined under this id."""
        return self._names.get(metric_id)

    def define(self, metric_type: int, name: str) -> int:
        """A new id while there are few, then the one that the name has. Raises `LimitReachedError`.

        A plugin that defines its metrics in each request gets those it has after that.
        """
        limits = self._limits
        if len(self._names) >= limits.metrics:
            reached = LimitReachedError("metrics", limits.metrics)
        elif self._bytes + len(name) > limits.metric_bytes:
            reached = LimitReachedError("metric_bytes", limits.metric_bytes)
        else:
            self._bytes += len(name)
            self._counts[metric_type] += 1
            metric_id = _ID_STEP * self._counts[metric_type] + metric_type
            self._names[metric_id] = name
            return metric_id
        for metric_id, known in self._names.items():
            if known == name and type_of(metric_id) == metric_type:
                return metric_id
        raise reached
