"""Metrics by OpenTelemetry in place of Prometheus: what plugins and the host count goes to the app's meter provider.

Only opentelemetry-api is used; without an SDK that an app sets up, nothing is kept anywhere. Names are those of
plugins, without Prometheus's rules of what a name may be; labels are attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from weakref import WeakSet

from opentelemetry import metrics as api
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from asgi_wasm.host.abi import MetricType
from asgi_wasm.host.host_metrics import RunningVm
from asgi_wasm.host.ports import Clock, Metrics
from asgi_wasm.services.metrics.names import Admission, series_of
from asgi_wasm.specs import MetricsSpec

# Nanoseconds. The size of a memory costs a call into the engine.
_MEMORY_PERIOD = 1_000_000_000


class OtelMetrics:
    """`host.ports.Metrics` that forwards to ``inner``, which plugins read back, and tells OpenTelemetry."""

    def __init__(
        self, inner: Metrics, spec: MetricsSpec, admission: Admission | None = None, meter: Meter | None = None
    ) -> None:
        self._inner = inner
        self._spec = spec
        self._meter = meter or api.get_meter("asgi_wasm.plugins")
        # By plugin and name; None for what is not told.
        self._told: dict[tuple[str, str], tuple[Callable[[int], object], str] | None] = {}
        self._admission = admission or Admission()

    def counter_add(self, plugin: str, name: str, value: int) -> None:
        """Add to a counter."""
        self._inner.counter_add(plugin, name, value)
        self._tell(plugin, name, "counter", value)

    def gauge_set(self, plugin: str, name: str, value: int) -> None:
        """Set a gauge."""
        self._inner.gauge_set(plugin, name, value)
        self._tell(plugin, name, "gauge", value)

    def gauge_add(self, plugin: str, name: str, value: int) -> None:
        """Add to a gauge."""
        self._inner.gauge_add(plugin, name, value)
        self._tell(plugin, name, "gauge", self._inner.known(plugin, MetricType.GAUGE, name))

    def observe(self, plugin: str, name: str, value: int) -> None:
        """Add one observation to a histogram."""
        self._inner.observe(plugin, name, value)
        self._tell(plugin, name, "histogram", value)

    def known(self, plugin: str, kind: MetricType, name: str) -> int:
        """What ``inner`` knows."""
        return self._inner.known(plugin, kind, name)

    def value(self, plugin: str, kind: MetricType, name: str) -> int:
        """What ``inner`` says."""
        return self._inner.value(plugin, kind, name)

    def _tell(self, plugin: str, name: str, kind: str, value: int) -> None:
        key = plugin, name
        if key not in self._told:
            if not self._admission.admits(plugin, name):
                return
            self._told[key] = self._instrument(plugin, name, kind)
        found = self._told[key]
        if found is not None and found[1] == kind:
            found[0](value)

    def _instrument(self, plugin: str, name: str, kind: str) -> tuple[Callable[[int], object], str] | None:
        series = series_of(plugin, name, self._spec.rules)
        attributes = dict(series.labels)
        try:
            if kind == "counter":
                return partial(self._meter.create_counter(series.name).add, attributes=attributes), kind
            if kind == "gauge":
                return partial(self._meter.create_gauge(series.name).set, attributes=attributes), kind
            buckets = list(self._spec.buckets)
            made = self._meter.create_histogram(series.name, explicit_bucket_boundaries_advisory=buckets)
            return partial(made.record, attributes=attributes), kind
        except Exception as error:
            # A name that an SDK refuses; the plugin is not to blame, and goes on.
            self._admission.warn(plugin, f"metric {name!r} is not exported: {type(error).__name__}: {error}")
            return None


class OtelHostMetrics:
    """`host.host_metrics.HostMetrics` of one middleware. Names are those of Prometheus, with dots."""

    enabled = True

    def __init__(self, clock: Clock, meter: Meter | None = None, is_away: Callable[[], bool] = bool) -> None:
        """``is_away`` says whether shared data cannot be reached."""
        self._clock = clock
        self._is_away: Callable[[], bool] | None = is_away
        meter = meter or api.get_meter("asgi_wasm.host")
        self._requests = meter.create_counter("asgi_wasm.requests", description="Requests, by who answered.")
        self._actions = meter.create_counter("asgi_wasm.actions", description="What plugins decided about streams.")
        self._seconds = meter.create_histogram("asgi_wasm.callback.duration", "s", "What callbacks of plugins took.")
        self._traps = meter.create_counter("asgi_wasm.traps", description="VMs that failed.")
        self._policies = meter.create_counter("asgi_wasm.failures", description="Requests that met a failed plugin.")
        self._limits = meter.create_counter("asgi_wasm.limits_reached", description="What was refused or cut.")
        self._observed = meter.create_counter("asgi_wasm.observed", description="What observers would have done.")
        self._callouts = meter.create_histogram("asgi_wasm.callout.duration", "s", "What calls to upstreams took.")
        self._info = meter.create_up_down_counter("asgi_wasm.plugin.info", description="Workers in which it runs.")
        self._running: set[tuple[str, str]] = set()
        self._reloads = meter.create_counter("asgi_wasm.reloads", description="Reloads, by what came of them.")
        self._starts = meter.create_counter("asgi_wasm.vm.starts", description="VMs started.")
        self._away = meter.create_up_down_counter("asgi_wasm.plugins_away", description="Plugins that wait.")
        self._vms: WeakSet[RunningVm] = WeakSet()
        # By plugin, what they had when they were measured last, by the clock's nanoseconds.
        self._sizes: dict[str, int] = {}
        self._measured = 0
        meter.create_observable_gauge("asgi_wasm.shared_data.away", [self._reach], "", "Whether it is not reached.")
        meter.create_observable_gauge("asgi_wasm.vm.memory", [self._memory], "By", "Linear memory of plugins' VMs.")

    def timer(self, plugin: str, callback: str) -> Callable[[float], object]:
        """The histogram's own method."""
        return partial(self._seconds.record, attributes={"plugin": plugin, "callback": callback})

    def decision(self, plugin: str, callback: str, action: str) -> Callable[[], object]:
        """The counter's own method."""
        return partial(self._actions.add, 1, {"plugin": plugin, "callback": callback, "action": action})

    def request_ended(self, answered_by: str) -> None:
        """Count it; and now and then measure memory, which only this thread may."""
        self._requests.add(1, {"answered_by": answered_by})
        if self._clock.monotonic() - self._measured > _MEMORY_PERIOD:
            self.measure()

    def plugin_started(self, plugin: str, sha256: str) -> None:
        """Count this worker among those that run it."""
        if (plugin, sha256) not in self._running:
            self._running.add((plugin, sha256))
            self._info.add(1, {"plugin": plugin, "sha256": sha256})

    def reload_ended(self, outcome: str) -> None:
        """Count a reload, by what became of it."""
        self._reloads.add(1, {"outcome": outcome})

    def vm_started(self, vm: RunningVm) -> None:
        """Count it, and measure it from now on."""
        self._starts.add(1, {"plugin": vm.spec.name})
        self._vms.add(vm)
        self.measure()

    def measure(self) -> None:
        """Keep the memory that the living VMs of each plugin have now."""
        self._measured = self._clock.monotonic()
        sizes = dict.fromkeys(self._sizes, 0)
        for vm in self._vms:
            if vm.failure is None:
                sizes[vm.spec.name] = sizes.get(vm.spec.name, 0) + vm.instance.memory.size
        self._sizes = sizes

    def trapped(self, plugin: str) -> None:
        """Count a VM that a trap has ended."""
        self._traps.add(1, {"plugin": plugin})

    def policy_applied(self, plugin: str, policy: str) -> None:
        """Count a request that got a failure policy."""
        self._policies.add(1, {"plugin": plugin, "policy": policy})

    def observed(self, plugin: str, verdict: str) -> None:
        """Count a verdict that was told and not done."""
        self._observed.add(1, {"plugin": plugin, "verdict": verdict})

    def limit_reached(self, plugin: str, limit: str) -> None:
        """Count what a limit refused."""
        self._limits.add(1, {"plugin": plugin, "limit": limit})

    def plugin_away(self, plugin: str, away: bool) -> None:
        """Count those that are away now."""
        self._away.add(1 if away else -1, {"plugin": plugin})

    def callout_ended(self, plugin: str, upstream: str, outcome: str, seconds: float) -> None:
        """Time it."""
        self._callouts.record(seconds, {"plugin": plugin, "upstream": upstream, "outcome": outcome})

    def _memory(self, _options: CallbackOptions) -> Iterable[Observation]:
        """What was measured last: an SDK asks in a thread of its own, which no VM may be touched by."""
        return [Observation(size, {"plugin": plugin}) for plugin, size in self._sizes.items()]

    def _reach(self, _options: CallbackOptions) -> Iterable[Observation]:
        return [] if self._is_away is None else [Observation(int(self._is_away()))]

    def close(self) -> None:
        """The VMs end."""
        self._is_away = None
        for plugin, sha256 in self._running:
            self._info.add(-1, {"plugin": plugin, "sha256": sha256})
        self._running.clear()
        self._vms.clear()
        self._sizes = {}
