"""A plugin in process: the middleware with services of our own around it. `testing.plugin` has what tests use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from asgi_wasm.asgi.types import ASGIApp
from asgi_wasm.host.abi import LogLevel
from asgi_wasm.middleware import WasmMiddleware
from asgi_wasm.services.callouts.http_calls import HttpCalls
from asgi_wasm.services.callouts.turns import Turns
from asgi_wasm.services.callouts.upstreams import Upstream
from asgi_wasm.services.stores.memory import MemoryState
from asgi_wasm.services.ticks import Ticks
from asgi_wasm.specs import UpstreamSpec
from asgi_wasm.testing.app import TestApp
from asgi_wasm.testing.clock import ManualClock, settle
from asgi_wasm.testing.exchange import Exchange, GivenHeaders, drive, encoded, scope_of
from asgi_wasm.testing.records import Call, Calls, LogLine, Recorder, without_allocations
from asgi_wasm.testing.upstreams import TestUpstream
from asgi_wasm.worker.services import Services

Body = bytes | str | Iterable[bytes]
# Seconds of real time after which a request that is not answered is a failure.
_PATIENCE = 5.0


class _Middleware(WasmMiddleware):
    """A `WasmMiddleware` with other services."""

    def __init__(self, app: ASGIApp, services: Services, **options: Any) -> None:
        self._services = services
        super().__init__(app, **options)

    @property
    def memory(self) -> MemoryState:
        """Shared data, queues and metrics."""
        return self._workers.memory


class SharedDataView(MutableMapping[bytes, bytes]):
    """The shared data of one vm_id."""

    def __init__(self, middleware: _Middleware, vm_id: str) -> None:
        self._middleware = middleware
        self._vm_id = vm_id

    def _items(self) -> dict[bytes, bytes]:
        return self._middleware.memory.shared_data.items(self._vm_id)

    def __getitem__(self, key: bytes) -> bytes:
        return self._items()[key]

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._middleware.memory.shared_data.set(self._vm_id, key, value, 0)

    def __delitem__(self, key: bytes) -> None:
        raise TypeError("shared data has no way to remove a key: set it to b''")

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._items())

    def __len__(self) -> int:
        return len(self._items())

    def __repr__(self) -> str:
        return repr(self._items())


class HostedPlugin:
    """One plugin with a configuration, in front of an app. It starts with its first request (or `start`)."""

    def __init__(
        self,
        file: str | Path,
        conf: Any = None,
        *,
        app: ASGIApp | None = None,
        name: str | None = None,
        engine: str = "auto",
        log_level: str = "TRACE",
        foreign_functions: Any = (),
        cache_dir: str | Path | None = None,
        tell: Callable[[Call | LogLine], object] | None = None,
        **entry: Any,
    ) -> None:
        """``conf`` is a text, or what becomes JSON. ``entry`` are further settings of the plugin, such as ``root_id``.

        ``app`` is called in place of the attribute ``app``, which then only keeps what it sees. ``log_level`` is the
        lowest that the plugin may log at. ``tell`` hears of each call at its end, and of each log line.
        """
        self.name = name or Path(file).stem
        self.clock = ManualClock()
        self.recorder = Recorder(tell)
        self.recorder.lowest = LogLevel[log_level.upper()]
        self.app = TestApp(app)
        self._vm_id = str(entry.get("vm_id", ""))
        self.upstreams: dict[str, TestUpstream] = {}
        self._calls: HttpCalls | None = None
        plugin = {**entry, "name": self.name, "file": str(Path(file).absolute())}
        if conf is not None:
            plugin["conf"] = conf if isinstance(conf, (str, bytes)) else json.dumps(conf, separators=(",", ":"))
        settings: dict[str, Any] = {"plugins": [plugin], "engine": engine}
        if cache_dir is not None:
            settings["cache_dir"] = str(cache_dir)
        services = Services(
            log=lambda: self.recorder,
            clock=lambda: self.clock,
            ticks=lambda: Ticks(self.clock.call_later),
            http_calls=self._make_calls,
        )
        self.middleware = _Middleware(self.app, services, settings=settings, foreign_functions=foreign_functions)

    def _make_calls(self, _upstreams: Iterable[UpstreamSpec], limit: int) -> HttpCalls:
        self._calls = calls = HttpCalls((), limit, self.clock.call_later)
        for upstream in self.upstreams.values():
            calls.add(_carried(upstream))
        return calls

    # --- what the twins do, each in its own way

    async def _request(self, method: str, target: str, headers: GivenHeaders, body: Body, **scope: Any) -> Exchange:
        await self._start()
        pieces = [body.encode()] if isinstance(body, str) else [body] if isinstance(body, bytes) else [*body]
        fields = encoded(headers)
        if any(pieces) and not any(name in (b"content-length", b"transfer-encoding") for name, _ in fields):
            fields.append((b"content-length", b"%d" % sum(map(len, pieces))))
        begin, lines, seen = len(self.recorder.every_call), len(self.recorder.lines), len(self.app.requests)
        exchange = Exchange()
        try:
            await drive(self.middleware, scope_of(method, target, fields, **scope), pieces, exchange, _PATIENCE)
        finally:
            await settle()
            exchange.trace = Calls(self.recorder.every_call[begin:])
            told = without_allocations(exchange.trace)
            exchange.calls = Calls(call for call in told if not call.is_callback)
            exchange.callbacks = Calls(call for call in told if call.is_callback)
            exchange.logs = self.recorder.lines[lines:]
            exchange.app = self.app.requests[seen] if len(self.app.requests) > seen else None
        self._check_upstreams()
        return exchange

    def _check_upstreams(self) -> None:
        """Raises `UnexpectedCallError`."""
        for upstream in self.upstreams.values():
            upstream.check()

    async def _start(self) -> None:
        if not self.middleware.status().started:
            await self.middleware.start()

    async def _advance(self, seconds: float) -> None:
        await self._start()
        await self.clock.advance(seconds)
        self._check_upstreams()

    # --- what is around it

    def upstream(self, name: str) -> TestUpstream:
        """The upstream of this name, which the plugin may call from now on."""
        found = self.upstreams.get(name)
        if found is None:
            found = self.upstreams[name] = TestUpstream(name)
            if self._calls is not None:
                self._calls.add(_carried(found))
        return found

    @property
    def shared_data(self) -> MutableMapping[bytes, bytes]:
        """What plugins of its `vm_id` share, to be read and written."""
        return SharedDataView(self.middleware, self._vm_id)

    @property
    def metrics(self) -> Mapping[str, int | tuple[int, int]]:
        """Its metrics by name: counters and gauges; of histograms the count and the sum."""
        kept = self.middleware.memory.metrics
        found: dict[str, int | tuple[int, int]] = {}
        for table in (kept.counters, kept.gauges, kept.histograms):
            found.update({name: value for (plugin, name), value in table.items() if plugin == self.name})
        return found

    # --- what it did, from its start on

    @property
    def calls(self) -> Calls:
        """Every hostcall."""
        return Calls(call for call in without_allocations(self.recorder.every_call) if not call.is_callback)

    @property
    def callbacks(self) -> Calls:
        """Every callback."""
        return Calls(call for call in without_allocations(self.recorder.every_call) if call.is_callback)

    @property
    def logs(self) -> list[LogLine]:
        """Every line that it, or the host about it, has logged."""
        return self.recorder.lines

    @property
    def trace(self) -> str:
        """All of it as text."""
        return "\n".join(map(str, (self.recorder.every_call, *self.recorder.lines)))


def _carried(upstream: TestUpstream) -> Upstream:
    return Upstream(UpstreamSpec(upstream.name, f"http://{upstream.name}"), Turns(), upstream)
