"""What a middleware's plugins are doing now, for whoever shows or watches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from asgi_wasm.host.abi import MetricType
from asgi_wasm.host.plugin import BrokenPlugin
from asgi_wasm.host.ports import PortError
from asgi_wasm.host.vm.vm import vm_of

if TYPE_CHECKING:
    from asgi_wasm.host.ports import Log
    from asgi_wasm.host.vm.vm import WasmVM
    from asgi_wasm.specs import HostSpec
    from asgi_wasm.worker.loading import AnyPlugin, Plugins


class PluginState(str, Enum):
    """How a plugin is."""

    # It serves.
    RUNNING = "running"
    # Its VM failed; the next request that needs it starts it again.
    FAILED = "failed"
    # Its VM failed, and it is not started again yet: its requests have the failure policy.
    AWAY = "away"
    # It was never there. Only a reload, or a restart, can change that.
    BROKEN = "broken"
    # Nothing runs it: routes have other configurations of it only.
    UNUSED = "unused"


@dataclass(frozen=True)
class PluginStatus:
    """One plugin with one configuration. VMs are by event loop, and so are ``failures``."""

    name: str
    # As the settings name it.
    file: str
    state: PluginState
    # Since its first start, and why the last one came; of a broken plugin, why it is.
    failures: int = 0
    last_failure: str = ""
    # Seconds until it may be started again: 0 when the next request does it, None where nothing is to be started.
    next_try: float | None = None
    priority: int = 0
    failure_policy: str = ""
    service: bool = False
    # The condition in CEL of the requests that it runs on; "" for all.
    when: str = ""
    # `enforce`, or `observe`: then what it would have done, and how often.
    mode: str = ""
    observed: Mapping[str, int] = field(default_factory=dict)
    # Hex digests; no configuration is shown, since it may hold secrets. "" for what was not loaded.
    sha256: str = ""
    conf_sha256: str = ""
    abi_version: str = ""
    # Of what it is made, as far as its file tells: "" for what was not loaded.
    language: str = ""
    sdk: str = ""
    # Bytes of its VM's memory, and the requests that its VM serves now; None and 0 while it does not run.
    memory: int | None = None
    streams: int = 0
    # What it logged last.
    last_lines: tuple[str, ...] = ()
    # Its counters and gauges that its VM has defined. Redis is not asked for them: there they are counters as they were
    # when this worker last added to them, and its own parts of gauges.
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RouteStatus:
    """A route of the settings; ``plugins`` are those that it names."""

    uri: str
    hosts: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunsHere:
    """A plugin that runs on a request, and the digest of the configuration that it has there."""

    name: str
    priority: int
    conf_sha256: str


@dataclass(frozen=True)
class Status:
    """The plugins of one event loop, in the order of the settings, and how many workers a reload has left to end."""

    plugins: tuple[PluginStatus, ...] = ()
    draining: int = 0
    # False before the first start, and after a stop.
    started: bool = False
    routes: tuple[RouteStatus, ...] = ()
    # How many of the last requests are kept (`WasmMiddleware.traces`).
    trace_requests: int = 0


def statuses(plugins: Plugins, log: Log) -> tuple[PluginStatus, ...]:
    """That of each plugin with each of its configurations."""
    return tuple(
        _status(plugin, conf, tuple(log.last_lines(plugin.spec.name)))
        for plugin in plugins
        for conf in plugins.confs(plugin) or [plugin.spec.conf or b""]
    )


def _status(plugin: AnyPlugin, conf: bytes, last_lines: tuple[str, ...]) -> PluginStatus:
    spec = plugin.spec
    found = PluginStatus(
        spec.name,
        spec.shown_file,
        PluginState.BROKEN,
        priority=spec.priority,
        failure_policy=spec.failure_policy.value,
        service=spec.service,
        when=spec.when,
        mode=spec.mode.value,
        observed=dict(plugin.observed),
        conf_sha256=sha256(conf).hexdigest(),
        last_lines=last_lines,
    )
    if isinstance(plugin, BrokenPlugin):
        return replace(found, last_failure=plugin.error.problem)
    code = plugin.code
    found = replace(found, sha256=code.digest, abi_version=str(code.version), language=code.language, sdk=code.sdk)
    recovery, root = plugin.recovery(conf), plugin.present(conf)
    if recovery is None or root is None:
        # No route has this configuration, so nothing has started it.
        return replace(found, state=PluginState.UNUSED)
    found = replace(found, failures=recovery.failures, last_failure=recovery.last_failure)
    vm = vm_of(root)
    found = replace(found, counters=_counters(vm))
    if vm.failure is None:
        streams = len(vm.contexts) - len(vm.roots()) + len(vm.lent)
        return replace(found, state=PluginState.RUNNING, memory=vm.instance.memory.size, streams=streams)
    seconds = recovery.seconds_left()
    return replace(found, state=PluginState.AWAY if seconds else PluginState.FAILED, next_try=seconds)


# The low two bits of a metric's id (`host.hostcalls.metrics`).
_TYPE_MASK = 3


def _counters(vm: WasmVM) -> Mapping[str, int]:
    """Histograms have no value that can be read."""
    found: dict[str, int] = {}
    for metric_id, name in vm.metric_ids:
        kind = MetricType(metric_id & _TYPE_MASK)
        if kind is not MetricType.HISTOGRAM:
            try:
                found[name] = vm.ports.metrics.known(vm.spec.name, kind, name)
            except PortError:
                # The store is away, which the log tells.
                return found
    return found


def routes_of(spec: HostSpec) -> tuple[RouteStatus, ...]:
    """Those of the settings, in their order."""
    return tuple(
        RouteStatus(route.uri, tuple(route.hosts), tuple(sorted(route.methods)), tuple(route.plugins))
        for route in spec.routes
    )


def running_on(plugins: Plugins, method: str, url: str) -> tuple[RunsHere, ...] | None:
    """The plugins that run on a request for a URL, or for a path, in their order; None when it would be refused."""
    parts = urlsplit(url if "//" in url.partition("?")[0] else f"//{_NOWHERE}/{url.lstrip('/')}")
    path = parts.path or "/"
    scope = {
        "type": "http",
        "method": method.upper(),
        "scheme": parts.scheme or "http",
        "path": unquote(path),
        "raw_path": path.encode("utf-8"),
        "query_string": parts.query.encode("utf-8"),
        "root_path": "",
        "headers": [(b"host", parts.netloc.encode("utf-8"))],
    }
    filters = plugins.router.filters(scope)
    if filters is None:
        return None
    return tuple(RunsHere(each.spec.name, each.spec.priority, sha256(each.conf).hexdigest()) for each in filters)


_NOWHERE = "localhost"
