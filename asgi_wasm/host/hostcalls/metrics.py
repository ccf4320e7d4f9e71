"""Spec chapter "Metrics"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host import limits
from asgi_wasm.host.abi import HostcallError, MetricType, ProxyStatus
from asgi_wasm.host.vm.metric_ids import type_of

if TYPE_CHECKING:
    from asgi_wasm.host.vm.vm import WasmVM

__all__ = ["define_metric", "get_metric", "increment_metric", "record_metric"]

_SIGN = 1 << 63


def define_metric(vm: WasmVM, metric_type: int, name_data: int, name_size: int, return_metric_id: int) -> int | None:
    """A new id for this name. BAD_ARGUMENT for an unknown type.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_define_metric
    Follows: Envoy `Context::defineMetric` (`source/extensions/common/wasm/context.cc`).
    """
    limits.check_size(vm, "metric_bytes", name_data, name_size)
    name = limits.read_name(vm, name_data, name_size).decode("utf-8", "replace")
    if metric_type > MetricType.HISTOGRAM:
        return ProxyStatus.BAD_ARGUMENT
    vm.memory.write_u32(return_metric_id, vm.metric_ids.define(metric_type, name))
    return None


def _name(vm: WasmVM, metric_id: int) -> str:
    name = vm.metric_ids.name(metric_id)
    if name is None:
        raise HostcallError(ProxyStatus.NOT_FOUND)
    return name


def increment_metric(vm: WasmVM, metric_id: int, offset: int) -> int | None:
    """Add to a counter (only more than 0) or a gauge (also less). BAD_ARGUMENT for a histogram.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_increment_metric
    Follows: Envoy `Context::incrementMetric` (`source/extensions/common/wasm/context.cc`).
    """
    kind = type_of(metric_id)
    if kind > MetricType.GAUGE:
        return ProxyStatus.BAD_ARGUMENT
    name, delta = _name(vm, metric_id), offset - 2 * (offset & _SIGN)
    if kind == MetricType.GAUGE:
        vm.ports.metrics.gauge_add(vm.plugin_name(), name, delta)
    elif delta > 0:
        vm.ports.metrics.counter_add(vm.plugin_name(), name, delta)
    else:
        return ProxyStatus.BAD_ARGUMENT
    return None


def record_metric(vm: WasmVM, metric_id: int, value: int) -> int | None:
    """Counter: add; gauge: set; histogram: observe. The value is unsigned.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_record_metric
    Follows: Envoy `Context::recordMetric` (`source/extensions/common/wasm/context.cc`).
    """
    name, kind = _name(vm, metric_id), type_of(metric_id)
    metrics, plugin = vm.ports.metrics, vm.plugin_name()
    act = (metrics.counter_add, metrics.gauge_set, metrics.observe)[kind]
    act(plugin, name, value)
    return None


def get_metric(vm: WasmVM, metric_id: int, return_value: int) -> int | None:
    """The value of a counter or gauge, eight bytes. BAD_ARGUMENT for a histogram.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_get_metric
    Follows: Envoy `Context::getMetric` (`source/extensions/common/wasm/context.cc`).
    """
    kind = type_of(metric_id)
    if kind > MetricType.GAUGE:
        return ProxyStatus.BAD_ARGUMENT
    value = vm.ports.metrics.value(vm.plugin_name(), MetricType(kind), _name(vm, metric_id))
    vm.memory.write_u64(return_value, value)
    return None
