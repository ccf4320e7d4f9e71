"""`WasmMiddleware`: its options, and what becomes of each kind of ASGI connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asgi_wasm import settings as settings_module
from asgi_wasm.asgi.lifespan import Lifespan
from asgi_wasm.asgi.properties import PluginProperties
from asgi_wasm.asgi.websocket import WebSocketHandshake
from asgi_wasm.errors import AsgiWasmError
from asgi_wasm.foreign import PythonFunction, collect
from asgi_wasm.worker.worker import Worker

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send

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
        self._worker: Worker | None = None
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

    async def _start_lazily(self) -> Worker | None:
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

    async def _make_worker(self) -> Worker:
        spec = self._load_settings()
        if not spec.plugins:
            # A file in another folder than the server's would otherwise go unnoticed, and its plugins with it.
            logger.warning(
                "no plugin is configured: neither arguments nor environment name one, nor a settings file in %s",
                Path.cwd(),
            )
        worker = Worker(self.app, spec, collect(self._foreign_functions))
        try:
            await worker.start(spec)
        except BaseException:
            await worker.stop()
            raise
        return worker


async def _refuse(kind: str, receive: Receive, send: Send) -> None:
    """Fail closed: nothing reaches the app past plugins that do not run."""
    if kind == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1011, "reason": "Service Unavailable"})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(_UNAVAILABLE))]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _UNAVAILABLE})
