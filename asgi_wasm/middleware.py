"""`WasmMiddleware`: the composition root, and the only file that names concrete engines and services."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asgi_wasm import settings as settings_module
from asgi_wasm.asgi.environment import Environment
from asgi_wasm.asgi.lane import Lane
from asgi_wasm.asgi.lifespan import Lifespan
from asgi_wasm.asgi.metrics_app import MetricsApp
from asgi_wasm.asgi.properties import PluginProperties
from asgi_wasm.asgi.websocket import WebSocketHandshake
from asgi_wasm.errors import AsgiWasmError, MissingExtraError
from asgi_wasm.foreign import PythonFunction, collect
from asgi_wasm.host.effects import EndCallouts, ForeignCall, GrpcEffect, HttpCall, RootEffect
from asgi_wasm.host.foreign.envoy import ENVOY_FUNCTIONS
from asgi_wasm.host.ports import NO_HOST_METRICS, ForeignFunction, HostMetrics, Metrics, Ports
from asgi_wasm.loading import Loader, Plugins
from asgi_wasm.services.clock import SystemClock
from asgi_wasm.services.foreign_calls import ForeignCalls
from asgi_wasm.services.grpc_calls import GrpcCalls
from asgi_wasm.services.http_calls import HttpCalls
from asgi_wasm.services.log import StandardLog
from asgi_wasm.services.memory import MemoryMetrics
from asgi_wasm.services.siblings import Siblings
from asgi_wasm.services.signatures import Signatures
from asgi_wasm.services.store import open_store
from asgi_wasm.services.ticks import Ticks

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send
    from asgi_wasm.routing import Filters
    from asgi_wasm.specs import HostSpec, MetricsSpec

logger = logging.getLogger("asgi_wasm.host")

_NO_PROPERTIES = PluginProperties({})
_UNAVAILABLE = b"Service Unavailable"


class WasmMiddleware:
    """Runs Proxy-Wasm plugins in front of an ASGI app.

    Making one is cheap: settings are read, modules compiled and plugins started by the server's lifespan startup, or
    by the first request where the server sends none. It keeps no state of a request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        plugins: Sequence[Any] | Mapping[str, Any] | None = None,
        settings: Any = None,
        upstreams: Mapping[str, Any] | None = None,
        routes: Sequence[Any] | None = None,
        engine: str | None = None,
        cache_dir: str | Path | None = None,
        metrics: Any = None,
        shared_data: str | None = None,
        foreign_functions: Mapping[str, PythonFunction] | Iterable[PythonFunction] = (),
    ) -> None:
        """``settings`` is a `Settings`, a mapping, or the path of a YAML or TOML file; without it the environment and
        the usual files are read. The other arguments win over it. ``foreign_functions`` are Python functions that
        plugins call by name: decorated ones (`foreign_function`), or a mapping. They win over Envoy's of the same name.
        """
        self.app = app
        self._load_settings = partial(
            settings_module.load,
            settings,
            plugins=plugins,
            routes=routes,
            upstreams=upstreams,
            engine=engine,
            cache_dir=cache_dir,
            metrics=metrics,
            shared_data=shared_data,
        )
        self._foreign_functions = foreign_functions if isinstance(foreign_functions, Mapping) else [*foreign_functions]
        self._worker: _Worker | None = None
        self._start_lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection. Scope types other than HTTP, WebSocket and lifespan pass unchanged."""
        kind = scope["type"]
        if kind == "lifespan":
            await Lifespan(self.app, self, receive, send).run(scope)
            return
        if kind not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        worker = self._worker or await self._start_lazily()
        if worker is None:
            await _refuse(kind, receive, send)
            return
        filters = worker.filters(scope)
        if not filters:
            await self.app({**scope, "asgi_wasm": _NO_PROPERTIES}, receive, send)
        elif kind == "http":
            await worker.lane(filters).run(scope, receive, send)
        else:
            await WebSocketHandshake(worker.environment, filters, scope, receive, send).run(scope)

    async def start(self) -> None:
        """Read the settings and start every plugin, strictly.

        Raises `SettingsError`, or the `PluginError` of a plugin that cannot start and does not fail open.
        """
        async with self._lock():
            # A request may have come before the lifespan.
            worker = self._worker or await self._make_worker()
            error = worker.plugins.first_error()
            self._worker = worker if error is None else None
            if error is not None:
                await worker.stop()
                raise error

    async def stop(self) -> None:
        """End every plugin and free the VMs, also of a start that is under way. Idempotent."""
        async with self._lock():
            worker, self._worker = self._worker, None
            if worker is not None:
                await worker.stop()

    def _lock(self) -> asyncio.Lock:
        """Held while plugins start or stop. A lock belongs to an event loop, and a middleware may outlive one."""
        loop = asyncio.get_running_loop()
        if self._start_lock is None or self._start_lock[0] is not loop:
            self._start_lock = loop, asyncio.Lock()
        return self._start_lock[1]

    async def _start_lazily(self) -> _Worker | None:
        """Start on the first request, once. None, and an error in the log, when the settings are wrong.

        A plugin that cannot start gets its failure policy on the requests that it would run on; the others run.
        """
        async with self._lock():
            if self._worker is None:
                try:
                    self._worker = await self._make_worker()
                except AsgiWasmError as error:
                    logger.error("no plugin runs, so every request is refused: %s", error)
                except Exception:
                    logger.exception("no plugin runs, so every request is refused")
            return self._worker

    async def _make_worker(self) -> _Worker:
        spec = self._load_settings()
        if not spec.plugins:
            # A file in another folder than the server's would otherwise go unnoticed, and its plugins with it.
            logger.warning(
                "no plugin is configured: neither arguments nor environment name one, nor a settings file in %s",
                Path.cwd(),
            )
        worker = _Worker(self.app, spec, collect(self._foreign_functions))
        try:
            await worker.start(spec)
        except BaseException:
            await worker.stop()
            raise
        return worker


class _Worker:
    """The services and plugins of one running middleware: what exists once per worker process."""

    def __init__(self, app: ASGIApp, spec: HostSpec, foreign_functions: Mapping[str, ForeignFunction]) -> None:
        log = StandardLog()
        self._ticks = Ticks()
        self._http_calls = HttpCalls(spec.upstreams, spec.call_response_limit)
        self._foreign_calls = ForeignCalls()
        self._store = open_store(spec.store)
        kept = self._store.metrics if spec.store.metrics else MemoryMetrics()
        self._siblings = Siblings()
        clock = SystemClock()
        self._telemetry = _Telemetry(spec.metrics, clock, kept)
        self._grpc_calls = GrpcCalls(spec.upstreams)
        ports = Ports(
            log=log,
            clock=clock,
            random=os.urandom,
            shared_data=self._store.shared_data,
            queues=self._store.queues,
            metrics=self._telemetry.metrics,
            foreign_functions={**ENVOY_FUNCTIONS, **Signatures().functions, **foreign_functions},
            start=self._start_effect,
            upstreams=self._http_calls.names,
            host_metrics=self._telemetry.host_metrics,
            can_call_grpc=self._grpc_calls.can_call,
        )
        self.environment = Environment(app, spec.limits, log, spec.pause_timeout, ports.host_metrics)
        self._loader = Loader(ports)
        self.plugins = Plugins((), ())
        # By the identity of their filters, which each lane keeps alive.
        self._lanes: dict[int, Lane] = {}

    def _start_effect(self, effect: RootEffect) -> None:
        if isinstance(effect, HttpCall):
            self._http_calls.start(effect)
        elif isinstance(effect, ForeignCall):
            self._foreign_calls.start(effect)
        elif isinstance(effect, GrpcEffect):
            self._grpc_calls.start(effect)
            if isinstance(effect, EndCallouts):
                self._http_calls.cancel(effect.root)
                self._ticks.forget(effect.root)
        else:
            self._ticks.set(effect)

    async def start(self, spec: HostSpec) -> None:
        """Load and start every plugin; one that fails stays in the chain for its failure policy."""
        await self._store.start()
        self.plugins = await self._loader.load(spec)
        sharing = self.plugins.sharing_state()
        if sharing and spec.store.scheme == "memory" and self._siblings.is_second():
            logger.warning(
                "several workers run, and what plugin %s may keep in shared data or queues is each worker's own with "
                "shared_data memory://: set it to lmdb:///path (one machine) or redis://host:port/0 (several)",
                ", ".join(map(repr, sharing)),
            )

    async def stop(self) -> None:
        """End every plugin, then free the VMs."""
        self._ticks.close()
        await self._http_calls.close()
        await self._foreign_calls.close()
        self.plugins.stop()
        await self._grpc_calls.close()
        self._loader.close()
        self._telemetry.close()
        await self._store.stop()
        self._siblings.leave()

    def filters(self, scope: Scope) -> Filters:
        """The plugins that run on this request."""
        router = self.plugins.router
        if not router.has_routes:
            return router.default
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        return router.filters(scope.get("method", "GET"), _without_port(host), scope["path"])

    def lane(self, filters: Filters) -> Lane:
        """The lane of a request with these filters, made when the first comes."""
        lane = self._lanes.get(id(filters))
        if lane is None:
            lane = self._lanes[id(filters)] = Lane(self.environment, filters)
        return lane


class _Telemetry:
    """What plugins and host count, exported where the settings say so; else nothing is loaded or called."""

    def __init__(self, spec: MetricsSpec, clock: SystemClock, inner: Metrics) -> None:
        """Raises `MissingExtraError`, or `SettingsError` for a multi-process directory that is not there."""
        self.metrics = inner
        self.host_metrics: HostMetrics = NO_HOST_METRICS
        self._closing: list[Callable[[], None]] = []
        if not spec.enabled:
            return
        _require_prometheus("the settings say 'metrics'")
        from asgi_wasm.services.metric_store import process_store
        from asgi_wasm.services.metrics import ExportedMetrics, PrometheusHostMetrics

        self.host_metrics = host_metrics = PrometheusHostMetrics(process_store(), clock)
        self.metrics = exported = ExportedMetrics(inner, process_store(), spec)
        self._closing += [exported.close, host_metrics.close]

    def close(self) -> None:
        """Withdraw what describes the present: gauges."""
        for close in self._closing:
            close()


def _require_prometheus(why: str) -> None:
    if find_spec("prometheus_client") is None:
        raise MissingExtraError(f"{why}: pip install 'asgi-wasm[metrics]'")


async def _expose(accept: str, compress: bool) -> tuple[list[tuple[bytes, bytes]], bytes]:
    _require_prometheus("metrics are asked for")
    from asgi_wasm.services.metric_store import expose

    return await expose(accept, compress)


metrics_app = MetricsApp(_expose)


def _without_port(host: bytes) -> str:
    """The name in a Host header, in lower case; brackets of an IPv6 address stay."""
    text = host.decode("latin-1").lower()
    name, colon, port = text.rpartition(":")
    return name if colon and port.isdigit() and not (":" in name and not name.endswith("]")) else text


async def _refuse(kind: str, receive: Receive, send: Send) -> None:
    """Fail closed: nothing reaches the app past plugins that do not run."""
    if kind == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1011, "reason": "Service Unavailable"})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(_UNAVAILABLE))]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _UNAVAILABLE})
