"""Exports what plugins and the host count; needs the extra ``metrics``, so it is imported late.

`ExportedMetrics` stands before the metrics that plugins read back; `PrometheusHostMetrics` is what the host counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import TypeVar
from weakref import WeakSet

from prometheus_client import Counter, Histogram

from asgi_wasm.host.abi import MetricType
from asgi_wasm.host.ports import Clock, Metrics, RunningVm
from asgi_wasm.logs import get_logger
from asgi_wasm.services.home import HomeLoop
from asgi_wasm.services.metrics.names import legal_name, series_of
from asgi_wasm.services.metrics.registry import (
    COUNTER,
    GAUGE,
    HISTOGRAM,
    Family,
    GaugeShare,
    Labels,
    MetricRegistry,
    NameTakenError,
    directory,
)
from asgi_wasm.specs import MetricsSpec

# Names of metrics that one plugin may have exported; each is up to 22 lines of a scrape. A plugin that puts what
# clients send into names would otherwise fill Prometheus's memory. Istio's proxies have some hundred.
MAX_NAMES = 1000
# Characters of one name. Istio's longest, with every label in it, have about 700; the rules' regular expressions run
# over it, and Python's may take time that grows with its square.
MAX_NAME_LENGTH = 1024
# Callbacks take microseconds; limits stop them after some seconds at the latest.
CALLBACK_BUCKETS = (10e-6, 50e-6, 100e-6, 500e-6, 1e-3, 5e-3, 25e-3, 0.1, 1.0)
# prometheus_client's own defaults, which are for requests over a network.
CALLOUT_BUCKETS = Histogram.DEFAULT_BUCKETS
_U64 = 0xFFFF_FFFF_FFFF_FFFF
# Nanoseconds. The size of a memory costs a call into the engine, and no other process can ask for it.
_MEMORY_PERIOD = 1_000_000_000

logger = get_logger("asgi_wasm.host")

_Cell = TypeVar("_Cell", Counter, GaugeShare, Histogram)
_Key = tuple[str, str]


class ExportedMetrics:
    """`host.ports.Metrics` that forwards to ``inner``, which plugins read back, and exports what passes.

    What it exports is what passed in this process since it started; nothing of that can fail a hostcall.
    """

    def __init__(self, inner: Metrics, store: MetricRegistry, spec: MetricsSpec, *, is_alone: bool = False) -> None:
        """``is_alone`` says that nobody else feeds ``inner``: then gauges are exported as they are there."""
        self._inner = inner
        self._is_alone = is_alone
        self._store = store
        self._spec = spec
        # None for what is not exported.
        self._counters: dict[_Key, Counter | None] = {}
        self._gauges: dict[_Key, GaugeShare | None] = {}
        self._histograms: dict[_Key, Histogram | None] = {}
        self._names: defaultdict[str, int] = defaultdict(int)
        self._warned: set[str] = set()
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
        if not self._admits(plugin, name):
            return None
        cell: _Cell | None = None
        try:
            series = series_of(plugin, name, self._spec.rules)
            family = self._family(legal_name(series.name, counter=kind == COUNTER), kind)
            if family is None:
                self._warn(plugin, f"metric {name!r} is not exported: its name is another metric's already")
            else:
                cell = child(family, series.labels)
        except Exception as error:
            # A full disk in multi-process mode, for instance; the plugin is not to blame, and goes on.
            self._warn(plugin, f"metric {name!r} is not exported: {type(error).__name__}: {error}")
        cells[key] = cell
        return cell

    def _admits(self, plugin: str, name: str) -> bool:
        if self._closed:
            return False
        if len(name) > MAX_NAME_LENGTH:
            self._warn(plugin, f"metrics with names over {MAX_NAME_LENGTH} characters are not exported")
            return False
        if self._names[plugin] >= MAX_NAMES:
            self._warn(plugin, f"it has {MAX_NAMES} metrics: further ones are not exported")
            return False
        self._names[plugin] += 1
        return True

    def _family(self, name: str, kind: str) -> Family | None:
        """The family of this name; when that is of another type or the host's, of the name with its type behind it."""
        for candidate in (name, f"{name}_{kind}"):
            try:
                return self._store.family(candidate, kind, f"Defined by a plugin as a {kind}.", self._spec.buckets)
            except NameTakenError:
                continue
        return None

    def _warn(self, plugin: str, problem: str) -> None:
        """Once for each plugin: what is wrong with one name is often wrong with all of them."""
        if plugin not in self._warned:
            self._warned.add(plugin)
            logger.warning("plugin %r: %s", plugin, problem)


class PrometheusHostMetrics:
    """`host.ports.HostMetrics` of one middleware."""

    enabled = True

    def __init__(self, store: MetricRegistry, clock: Clock) -> None:
        """The families are made at once, so that no plugin's metric can take their names. Raises `SettingsError`."""
        self._clock = clock
        family = store.family
        self._requests = family("asgi_wasm_requests", COUNTER, "Requests that ran through plugins, by who answered.")
        self._actions = family("asgi_wasm_actions", COUNTER, "What plugins decided about streams in their callbacks.")
        self._seconds = family(
            "asgi_wasm_callback_seconds", HISTOGRAM, "Seconds that plugins' callbacks took.", CALLBACK_BUCKETS
        )
        self._traps = family("asgi_wasm_traps", COUNTER, "VMs that failed while they acted for this plugin.")
        self._policies = family("asgi_wasm_failures", COUNTER, "Requests that met a failed plugin, by what they got.")
        self._limits = family("asgi_wasm_limits_reached", COUNTER, "What was refused or cut, by the plugin's limit.")
        self._callouts = family(
            "asgi_wasm_callout_seconds", HISTOGRAM, "Seconds that plugins' calls to upstreams took.", CALLOUT_BUCKETS
        )
        self._starts = family("asgi_wasm_vm_starts", COUNTER, "VMs started.")
        self._memory = family("asgi_wasm_vm_memory_bytes", GAUGE, "Linear memory of the plugin's VMs.")
        # By who answered; kept, since looking a child up costs more than counting.
        self._answers: dict[str, Callable[[], object]] = {}
        self._vms: WeakSet[RunningVm] = WeakSet()
        self._shares: dict[str, GaugeShare] = {}
        self._away = family("asgi_wasm_plugins_away", GAUGE, "Plugins that failed and wait for their next start.")
        self._waiting: dict[str, GaugeShare] = {}
        self._measured = 0
        self._multiprocess = directory() is not None
        self._store = store
        self._home = HomeLoop()
        store.measures.append(self._asked)

    def timer(self, plugin: str, callback: str) -> Callable[[float], object]:
        """The histogram's own method."""
        return self._seconds.histogram((("plugin", plugin), ("callback", callback))).observe

    def decision(self, plugin: str, callback: str, action: str) -> Callable[[], object]:
        """The counter's own method."""
        return self._actions.counter((("plugin", plugin), ("callback", callback), ("action", action))).inc

    def request_ended(self, answered_by: str) -> None:
        """Count it; and now and then measure memory, where a scrape of another process cannot ask us for it."""
        count = self._answers.get(answered_by)
        if count is None:
            count = self._answers[answered_by] = self._requests.counter((("answered_by", answered_by),)).inc
        count()
        if self._multiprocess and self._clock.monotonic() - self._measured > _MEMORY_PERIOD:
            self.measure()

    def vm_started(self, vm: RunningVm) -> None:
        """Count it, and measure it from now on."""
        self._starts.counter((("plugin", vm.spec.name),)).inc()
        self._vms.add(vm)
        self.measure()

    def trapped(self, plugin: str) -> None:
        """Count it."""
        self._traps.counter((("plugin", plugin),)).inc()

    def policy_applied(self, plugin: str, policy: str) -> None:
        """Count it."""
        self._policies.counter((("plugin", plugin), ("policy", policy))).inc()

    def limit_reached(self, plugin: str, limit: str) -> None:
        """Count it."""
        self._limits.counter((("plugin", plugin), ("limit", limit))).inc()

    def plugin_away(self, plugin: str, away: bool) -> None:
        """Count those that are away now."""
        share = self._waiting.get(plugin)
        if share is None:
            share = self._waiting[plugin] = self._away.share((("plugin", plugin),))
        share.set(share.value + (1 if away else -1))

    def callout_ended(self, plugin: str, upstream: str, outcome: str, seconds: float) -> None:
        """Count and time it."""
        labels = (("plugin", plugin), ("upstream", upstream), ("outcome", outcome))
        self._callouts.histogram(labels).observe(seconds)

    def _asked(self) -> None:
        """Measure for a scrape, which may run in another event loop: then the next one sees what is measured now."""
        if self._home.runs_here():
            self.measure()
        else:
            with suppress(RuntimeError):
                self._home.soon(self.measure)

    def measure(self) -> None:
        """Set the memory of each plugin to what its living VMs have now."""
        self._measured = self._clock.monotonic()
        sizes = dict.fromkeys(self._shares, 0)
        for vm in self._vms:
            if vm.failure is None:
                sizes[vm.spec.name] = sizes.get(vm.spec.name, 0) + vm.instance.memory.size
        for plugin, size in sizes.items():
            if plugin not in self._shares:
                self._shares[plugin] = self._memory.share((("plugin", plugin),))
            self._shares[plugin].set(size)

    def close(self) -> None:
        """The VMs end: withdraw their memory."""
        self._store.measures.remove(self._asked)
        self._vms.clear()
        for shares in (self._shares, self._waiting):
            for share in shares.values():
                share.close()
            shares.clear()
