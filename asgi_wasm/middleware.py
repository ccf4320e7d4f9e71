"""`WasmMiddleware`: its options, and what becomes of each kind of ASGI connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asgi_wasm import settings as settings_module
from asgi_wasm.accelerator import find as find_accelerator
from asgi_wasm.asgi.lane.door import Door
from asgi_wasm.asgi.lifespan import Lifespan
from asgi_wasm.asgi.messages.translate import settle_headers
from asgi_wasm.asgi.own_scope import share_scope
from asgi_wasm.asgi.properties import PluginProperties
from asgi_wasm.asgi.refusal import fail_closed
from asgi_wasm.asgi.websocket.websocket import WebSocketHandshake
from asgi_wasm.foreign.decorator import PythonFunction, collect
from asgi_wasm.worker.services import SYSTEM
from asgi_wasm.worker.workers import Workers

if TYPE_CHECKING:
    from asgi_wasm.asgi.lane.lane import Lane
    from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send
    from asgi_wasm.host.vm.vm import ForeignFunction
    from asgi_wasm.services.traces.requests import TracedRequest
    from asgi_wasm.specs import HostSpec
    from asgi_wasm.worker.routing import Filters
    from asgi_wasm.worker.status import RunsHere, Status
    from asgi_wasm.worker.worker import Worker

_NO_PROPERTIES = PluginProperties({})


# The accelerator's, where there is one, whatever the setting will say: it opens to no lane that does without.
if TYPE_CHECKING:
    _Door = Door
elif (_accelerator := find_accelerator()) is not None:
    _Door = _accelerator.Door
else:
    _Door = Door


class WasmMiddleware(_Door):
    """Runs Proxy-Wasm plugins in front of an ASGI app.

    Making one is cheap: settings are read, modules compiled and plugins started by the server's lifespan startup, or
    by the first request where the server sends none. It keeps no state of a request.

    What an argument says wins over every other source, key by key; the rest comes from ``settings``. Every key and
    its default is in ``asgi_wasm/settings/README.md``.

    app: the ASGI app that the plugins stand in front of. Needed. Example: ``WasmMiddleware(app)``.
    plugins: list of `Plugin` or mappings, or a mapping by name. Default: those of the settings. What has
        ``enabled=False`` does not run.
        Example: ``[Plugin(name="waf", file="plugins/waf.wasm", priority=10, conf={"block": ["/admin"]})]``.
    settings: path of a YAML or TOML file, which takes the place of the usual files; or a mapping or `Settings`,
        which take the place of every other source. Default: the environment, ``.env`` and the usual files.
        Example: ``Path(__file__).with_name("asgi-wasm.yaml")``.
    upstreams: mapping of names to URLs, mappings or `Upstream`. Default: none, so plugins can call nobody.
        Example: ``{"auth": "https://auth.internal:8443"}``.
    routes: list of `Route` or mappings. Default: none, so that every plugin runs on every request. ``False`` in place
        of a plugin's settings keeps it off, and an entry ``{"default": "deny"}`` refuses what no route names.
        Example: ``[{"uri": "/orders/*", "plugins": {"waf": {"conf": "strict"}}}]``.
    engine: ``"auto"``, ``"wasmtime"`` or ``"wasmer"``. Default: ``"auto"``, which is wasmtime.
        Example: ``"wasmer"``.
    cache_dir: path of the directory for compiled code and fetched plugins. Default: one in the user's cache.
        Example: ``"/opt/asgi-wasm-cache"``.
    metrics: bool, or a mapping with ``rules`` and ``buckets``. Default: False. Needs the extra ``metrics``.
        Example: ``True``.
    shared_data: URL of the store that workers share. Default: ``"memory://"``, each process its own.
        Example: ``"redis://localhost:6379/0"``.
    foreign_functions: Python functions that plugins call by name: those decorated with `foreign_function`, or a
        mapping by name. They win over Envoy's of the same name. Default: none, besides Envoy's.
        Example: ``[lookup]``, or ``{"lookup": lookup}``.
    """

    _services = SYSTEM

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
        """Nothing is read yet: mistakes in the settings are told by the start (`start`)."""
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
        self._workers = Workers(app, self._configure, self._services, self.shut)
        if _Door is not Door and type(self).__call__ is _Door.__call__:
            # Servers look there for a coroutine function, to tell what kind of an app it is.
            vars(self)["__call__"] = self.serve_connection

    async def serve_connection(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection, as Python serves it; servers call the middleware itself."""
        kind = scope["type"]
        if kind == "http" or kind == "websocket":
            mark, here, worker = self._workers.last
            # Compared here, since a call more is what every request would pay for.
            if worker is None or here is not mark():
                worker = self._worker or await self._workers.start_lazily()
            lane = worker.sole_lane if worker is not None and kind == "http" else None
            if lane is not None:
                served = lane.run(scope, receive, send)
                if self.is_shut:
                    self._open(lane)
                await served
            else:
                await self._dispatch(worker, scope, receive, send)
        elif kind == "lifespan":
            await Lifespan(self.app, self, receive, send).run(scope)
        else:
            await self.app(scope, receive, send)

    if not TYPE_CHECKING and _Door is Door:
        __call__ = serve_connection

    def _open(self, lane: Lane) -> None:
        """Let the accelerator serve what comes after a request of this lane, if it can."""
        last = mark, here, worker = self._workers.last
        if (
            worker is None
            or worker.sole_lane is not lane
            or (lane.course is None and lane.plan.accelerator is not None)
        ):
            return
        self.open_to(mark, here, lane.course)
        # Another thread may have put an end to that worker meanwhile.
        if self._workers.last is not last:
            self.shut()

    async def _dispatch(self, worker: Worker | None, scope: Scope, receive: Receive, send: Send) -> None:
        """What settings tell apart, and WebSockets' handshakes."""
        if worker is None:
            await fail_closed(scope, receive, send)
            return
        if type(scope.get("headers")) is not list:
            settle_headers(scope)
        filters = worker.plugins.router.filters(scope)
        if worker.is_strict:
            # Settings that refuse or rewrite some requests before any plugin.
            settled = await worker.admit(filters, scope, receive, send)
            if settled is None:
                return
            if settled is not scope:
                try:
                    await self._serve(worker, filters, settled, receive, send)
                finally:
                    share_scope(settled, scope)
                return
        await self._serve(worker, filters, scope, receive, send)

    async def _serve(self, worker: Worker, filters: Filters | None, scope: Scope, receive: Receive, send: Send) -> None:
        if not filters:
            # What another of our middlewares outside has put there stays.
            own = {"asgi_wasm": _NO_PROPERTIES, **scope}
            try:
                await self.app(own, receive, send)
            finally:
                share_scope(own, scope)
        elif scope["type"] == "http":
            await worker.lane(filters).run(scope, receive, send)
        else:
            await WebSocketHandshake(worker.environment, worker.lane(filters).plan, scope, receive, send).run(scope)

    async def start(self) -> None:
        """Read the settings and start every plugin for the running event loop, strictly.

        Raises `SettingsError`, or the `PluginError` of a plugin that cannot start and does not fail open.
        """
        await self._workers.start()

    async def stop(self) -> None:
        """End every plugin of the running event loop and free the VMs, also of a start under way. Idempotent."""
        await self._workers.stop()

    async def reload(self) -> None:
        """Read settings and plugins anew, start them beside those that run, and give them every new request.

        Requests that run end on the plugins that they began with, which are stopped when they have no more, or after
        ``drain_timeout``. Shared data, queues and metrics live on. Other event loops follow by themselves. Raises
        `SettingsError`, or the `PluginError` of any plugin that cannot start: then nothing has changed.
        """
        await self._workers.reload()

    @property
    def _worker(self) -> Worker | None:
        """That of the running event loop, if it has been started."""
        return self._workers.running()

    def status(self) -> Status:
        """How the plugins of the running event loop are. Cheap; to be called in an event loop."""
        return self._workers.status()

    def traces(self) -> tuple[TracedRequest, ...]:
        """The last requests of the running event loop, the latest first: as many as the setting ``trace_requests``."""
        return self._workers.traces()

    def leave_out(self, scope: Scope) -> None:
        """Keep no trace of the request that the app was called with by this scope: the status page's own, say."""
        self._workers.leave_out(scope)

    def running_on(self, method: str, url: str) -> tuple[RunsHere, ...] | None:
        """The plugins that run on a request for ``url``, or a path; None when the settings refuse it."""
        return self._workers.running_on(method, url)

    async def __aenter__(self) -> WasmMiddleware:
        """`start`; for an app mounted below another, whose lifespan does not reach it."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """`stop`, whatever came of the app."""
        await self.stop()

    def _configure(self) -> tuple[HostSpec, Mapping[str, ForeignFunction]]:
        """What a worker is made of, read anew for each. Raises `AsgiWasmError`."""
        return self._load_settings(), collect(self._foreign_functions)
