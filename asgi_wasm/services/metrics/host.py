"""Exports what the host counts; needs the extra ``metrics``, so it is imported late."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from weakref import WeakSet

from prometheus_client import Histogram

from asgi_wasm.host.host_metrics import RunningVm
from asgi_wasm.host.ports import Clock
from asgi_wasm.services.home import HomeLoop
from asgi_wasm.services.metrics.registry import COUNTER, GAUGE, HISTOGRAM, GaugeShare, MetricRegistry, directory

# Callbacks take microseconds; limits stop them after some seconds at the latest.
CALLBACK_BUCKETS = (10e-6, 50e-6, 100e-6, 500e-6, 1e-3, 5e-3, 25e-3, 0.1, 1.0)
# prometheus_client's own defaults, which are for requests over a network.
CALLOUT_BUCKETS = Histogram.DEFAULT_BUCKETS
# Nanoseconds. The size of a memory costs a call into the engine, and no other process can ask for it.
_MEMORY_PERIOD = 1_000_000_000


class PrometheusHostMetrics:
    """`host.host_metrics.HostMetrics` of one middleware."""

    enabled = True

    def __init__(self, store: MetricRegistry, clock: Clock, is_away: Callable[[], bool] = bool) -> None:
        """The families are made at once, so that no plugin's metric can take their names. Raises `SettingsError`.

        ``is_away`` says whether shared data cannot be reached.
        """
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
        self._observed = family(
            "asgi_wasm_observed", COUNTER, "Requests to which plugins that only observe would have done something."
        )
        self._callouts = family(
            "asgi_wasm_callout_seconds", HISTOGRAM, "Seconds that plugins' calls to upstreams took.", CALLOUT_BUCKETS
        )
        self._info = family("asgi_wasm_plugin_info", GAUGE, "Workers in which a plugin runs, by its file's SHA-256.")
        self._running: dict[tuple[str, str], GaugeShare] = {}
        self._reloads = family("asgi_wasm_reloads", COUNTER, "Reloads of the settings, by what came of them.")
        self._starts = family("asgi_wasm_vm_starts", COUNTER, "VMs started.")
        self._memory = family("asgi_wasm_vm_memory_bytes", GAUGE, "Linear memory of the plugin's VMs.")
        # By who answered; kept, since looking a child up costs more than counting.
        self._answers: dict[str, Callable[[], object]] = {}
        self._vms: WeakSet[RunningVm] = WeakSet()
        self._shares: dict[str, GaugeShare] = {}
        self._away = family("asgi_wasm_plugins_away", GAUGE, "Plugins that failed and wait for their next start.")
        self._waiting: dict[str, GaugeShare] = {}
        self._is_away = is_away
        self._unreached = family("asgi_wasm_shared_data_away", GAUGE, "Workers that cannot reach their shared data.")
        self._reach: list[GaugeShare] = []
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

    def plugin_started(self, plugin: str, sha256: str) -> None:
        """Count this worker among those that run it."""
        key = plugin, sha256
        if key not in self._running:
            self._running[key] = self._info.share((("plugin", plugin), ("sha256", sha256)))
        self._running[key].set(1)

    def reload_ended(self, outcome: str) -> None:
        """Count a reload, by what became of it."""
        self._reloads.counter((("outcome", outcome),)).inc()

    def vm_started(self, vm: RunningVm) -> None:
        """Count it, and measure it from now on."""
        self._starts.counter((("plugin", vm.spec.name),)).inc()
        self._vms.add(vm)
        self.measure()

    def trapped(self, plugin: str) -> None:
        """Count a VM that a trap has ended."""
        self._traps.counter((("plugin", plugin),)).inc()

    def policy_applied(self, plugin: str, policy: str) -> None:
        """Count a request that got a failure policy."""
        self._policies.counter((("plugin", plugin), ("policy", policy))).inc()

    def observed(self, plugin: str, verdict: str) -> None:
        """Count a verdict that was told and not done."""
        self._observed.counter((("plugin", plugin), ("verdict", verdict))).inc()

    def limit_reached(self, plugin: str, limit: str) -> None:
        """Count what a limit refused."""
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
        """Set the memory of each plugin to what its living VMs have now, and whether shared data are there."""
        self._reach = self._reach or [self._unreached.share(())]
        self._reach[0].set(int(self._is_away()))
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
        """The VMs end: withdraw their memory, and that the plugins run."""
        self._store.measures.remove(self._asked)
        self._vms.clear()
        for share in (*self._shares.values(), *self._waiting.values(), *self._running.values(), *self._reach):
            share.close()
        self._reach.clear()
        self._shares.clear()
        self._waiting.clear()
        self._running.clear()
