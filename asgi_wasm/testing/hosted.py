"""Plugins in process: the middleware with services of our own around it. `testing.plugin` has what tests use."""

from __future__ import annotations

import json as json_module
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi.properties import GIVEN_ATTRIBUTES, PluginProperties
from asgi_wasm.asgi.types import ASGIApp
from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.ports import NANOSECOND
from asgi_wasm.services.callouts.grpc.calls import GrpcCalls
from asgi_wasm.services.callouts.http_calls import HttpCalls
from asgi_wasm.services.callouts.turns import Turns
from asgi_wasm.services.callouts.upstreams import Upstream
from asgi_wasm.services.ticks import Ticks
from asgi_wasm.specs import UpstreamSpec
from asgi_wasm.testing.app import TestApp
from asgi_wasm.testing.clock import ManualClock, settle
from asgi_wasm.testing.connection import Connection
from asgi_wasm.testing.driving import NotAnsweredError, drive, shake_hands
from asgi_wasm.testing.exchange import NOT_GIVEN, Exchange, GivenHeaders, encoded, pieces_of, scope_of
from asgi_wasm.testing.middleware import TestMiddleware
from asgi_wasm.testing.patience import Patience, Unrest, others, who_paused
from asgi_wasm.testing.records import Call, Calls, LogLine, Recorder, without_allocations
from asgi_wasm.testing.upstreams.upstreams import TestUpstream
from asgi_wasm.testing.views import PluginView
from asgi_wasm.worker.services import Services

if TYPE_CHECKING:
    from asgi_wasm.host.codecs.wire import PropertyValue

Body = bytes | str | Iterable[bytes | str]
Properties = Mapping[str, "PropertyValue"]
# Seconds of real time after which a request that is not answered is a failure: enough for a busy machine.
_PATIENCE = 10.0
_UPGRADE = ((b"connection", b"Upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-version", b"13"))
_SCOPE_KEYS = {"type", "asgi", "http_version", "scheme", "path", "raw_path", "query_string", "root_path", "client"}
_SCOPE_KEYS |= {"server", "extensions", "state", "subprotocols"}
_DENIALS: dict[str, Any] = {"websocket.http.response": {}}


class _GrpcCalls(GrpcCalls):
    """Calls that need no h2, since nothing is sent."""

    def can_call(self, name: str) -> bool:
        """Whether the upstream is known."""
        return name in self._upstreams


class HostedPlugins:
    """The plugins of some settings, in front of an app. They start with the first request (or `start`)."""

    def __init__(
        self,
        settings: Any,
        *,
        app: ASGIApp | None = None,
        engine: str = "auto",
        log_level: str = "TRACE",
        foreign_functions: Any = (),
        cache_dir: str | Path | None = None,
        properties: Properties | None = None,
        tell: Callable[[Call | LogLine], object] | None = None,
    ) -> None:
        """``settings`` as the middleware has them: a mapping, where a ``file`` may be a `Guest`, or the path of a file.

        ``app`` is called in place of the attribute ``app``, which then only keeps what it sees. ``log_level`` is the
        lowest that plugins may log at. ``properties`` are there for every request, by their path with dots. ``tell``
        hears of each call at its end, and of each log line. Upstreams are played by the test, whatever their URLs.
        """
        self.clock = ManualClock()
        self.recorder = Recorder(tell)
        self.recorder.lowest = LogLevel[log_level.upper()]
        self.app = TestApp(app)
        self.upstreams: dict[str, TestUpstream] = {}
        self.properties: dict[str, PropertyValue] = dict(properties or {})
        self._http: HttpCalls | None = None
        self._grpc: GrpcCalls | None = None
        services = Services(
            log=lambda: self.recorder,
            clock=lambda: self.clock,
            ticks=lambda: Ticks(self.clock.call_later),
            http_calls=self._make_http,
            grpc_calls=self._make_grpc,
            timers=self.clock,
        )
        given: dict[str, Any] = {"settings": settings, "foreign_functions": foreign_functions}
        if engine != "auto":
            given["engine"] = engine
        if cache_dir is not None:
            given["cache_dir"] = cache_dir
        self.middleware = TestMiddleware(self.app, services, **given)

    def _make_http(self, upstreams: Iterable[UpstreamSpec], limit: int) -> HttpCalls:
        self._http = calls = HttpCalls((), limit, self.clock.call_later)
        for upstream in self._played(upstreams):
            calls.add(Upstream(_spec(upstream), Turns(), upstream))
        return calls

    def _make_grpc(self, upstreams: Iterable[UpstreamSpec]) -> GrpcCalls:
        self._grpc = calls = _GrpcCalls((), self.clock.call_later)
        for upstream in self._played(upstreams):
            calls.add(_spec(upstream), upstream.grpc)
        return calls

    def _played(self, upstreams: Iterable[UpstreamSpec]) -> Iterable[TestUpstream]:
        """Those that the test has named, and those of the settings."""
        for spec in upstreams:
            self.upstreams.setdefault(spec.name, TestUpstream(spec.name, self.clock))
        return self.upstreams.values()

    # --- what the twins do, each in its own way

    def _scope(
        self, method: str, target: str, headers: list[tuple[bytes, bytes]], properties: Properties | None, **scope: Any
    ) -> dict[str, Any]:
        """With what plugins set in ``asgi_wasm``, to be read afterwards. Raises TypeError for no key of ASGI."""
        for key in scope.keys() - _SCOPE_KEYS:
            raise TypeError(f"a request has no argument {key!r}, and a scope of ASGI no key of this name")
        given = {**self.properties, **(properties or {})}
        attributes = {tuple(path.encode().split(b".")): value for path, value in given.items()}
        own: dict[str, Any] = {GIVEN_ATTRIBUTES: attributes} if attributes else {}
        if self.app.trailers:
            own["extensions"] = {"http.response.trailers": {}}
        return scope_of(method, target, headers, **{"asgi_wasm": PluginProperties({}), **own, **scope})

    async def _request(
        self,
        method: str,
        target: str,
        headers: GivenHeaders,
        body: Body,
        properties: Properties | None = None,
        *,
        json: Any = NOT_GIVEN,
        **scope: Any,
    ) -> Exchange:
        await self._start()
        fields = encoded(headers)
        if json is not NOT_GIVEN:
            body = json_module.dumps(json)
            fields.append((b"content-type", b"application/json"))
        pieces = pieces_of(body)
        if any(pieces) and not any(name in (b"content-length", b"transfer-encoding") for name, _ in fields):
            fields.append((b"content-length", b"%d" % sum(map(len, pieces))))
        made = self._scope(method, target, fields, properties, **scope)
        return await self._kept(made, lambda *how: drive(self.middleware, made, pieces, *how))

    async def _websocket(
        self,
        target: str,
        headers: GivenHeaders,
        subprotocols: Iterable[str],
        properties: Properties | None = None,
        **scope: Any,
    ) -> Exchange:
        await self._start()
        offered = list(subprotocols)
        fields = [*encoded(headers), *_UPGRADE]
        if offered:
            fields.append((b"sec-websocket-protocol", ", ".join(offered).encode()))
        given = {"type": "websocket", "scheme": "ws", "subprotocols": offered, "extensions": _DENIALS, **scope}
        made = self._scope("GET", target, fields, properties, **given)
        del made["method"]
        return await self._kept(made, lambda *how: shake_hands(self.middleware, made, *how))

    async def _kept(self, scope: dict[str, Any], sent: Callable[[Exchange, Patience], Awaitable[None]]) -> Exchange:
        """With all that happens meanwhile."""
        begin, lines, seen = len(self.recorder.every_call), len(self.recorder.lines), len(self.app.requests)
        exchange = Exchange(properties=scope["asgi_wasm"])
        alone, unrest = self._alone(), self._unrest()

        def is_stuck() -> bool:
            acts = self.middleware.hears_others or (self.app.is_tests_own and len(self.app.requests) > seen)
            return not acts and alone() and who_paused(self.recorder.every_call[begin:]) is not None

        def progress() -> tuple[int, ...]:
            unrest.check()
            return len(self.recorder.every_call), self.clock.now

        try:
            await sent(exchange, Patience(_PATIENCE, progress, is_stuck))
        except NotAnsweredError as error:
            why = who_paused(self.recorder.every_call[begin:]) or "no plugin has paused it; the app does not answer"
            raise NotAnsweredError(f"{error}: {why}") from None
        finally:
            await settle(unrest.check)
            exchange.trace = Calls(self.recorder.every_call[begin:])
            told = without_allocations(exchange.trace)
            exchange.calls = Calls(call for call in told if not call.is_callback)
            exchange.callbacks = Calls(call for call in told if call.is_callback)
            exchange.logs = self.recorder.lines[lines:]
            exchange.app = self.app.requests[seen] if len(self.app.requests) > seen else None
        self._check()
        return exchange

    def _check(self) -> None:
        """Raises what a guest in Python has raised, and `UnexpectedCallError`."""
        for guest in self.middleware.guests:
            if guest.errors:
                raise guest.errors.pop(0)
        for upstream in self.upstreams.values():
            upstream.check()

    async def _connect(
        self, method: str, target: str, headers: GivenHeaders, properties: Properties | None, **scope: Any
    ) -> Connection:
        await self._start()
        return Connection(self.middleware, self._scope(method, target, encoded(headers), properties, **scope))

    async def _start(self) -> None:
        if not self.middleware.status().started:
            await self.middleware.start()

    async def _advance(self, seconds: float) -> None:
        await self._start()
        begin = self.clock.now
        unrest = self._unrest(lambda: f"in the first {(self.clock.now - begin) * NANOSECOND:g} s of {seconds:g}")
        await self.clock.advance(seconds, unrest.check)
        self._check()

    def _alone(self) -> Callable[[], bool]:
        """Of the present task: tells whether nobody else can do anything while it waits."""
        tasks = others()
        return lambda: all(task.done() for task in tasks)

    def _unrest(self, when: Callable[[], str] = lambda: "while the clock stands still") -> Unrest:
        return Unrest(self.recorder, when)

    @property
    def title(self) -> str:
        """What a failed test calls it."""
        return "plugins"

    # --- what is around them

    def upstream(self, name: str) -> TestUpstream:
        """The upstream of this name, which plugins may call from now on."""
        found = self.upstreams.get(name)
        if found is None:
            found = self.upstreams[name] = TestUpstream(name, self.clock)
            if self._http is not None:
                self._http.add(Upstream(_spec(found), Turns(), found))
            if self._grpc is not None:
                self._grpc.add(_spec(found), found.grpc)
        return found

    def __getitem__(self, name: str) -> PluginView:
        """One plugin's part in what happened. Raises KeyError for one that the settings do not have."""
        vm_ids = {plugin.name: plugin.vm_id for plugin in self.middleware.spec.plugins}
        return PluginView(name, vm_ids[name], self.recorder, lambda: self.middleware.memory)

    # --- what they did, from their start on

    @property
    def calls(self) -> Calls:
        """Every hostcall."""
        return Calls(call for call in without_allocations(self.recorder.every_call) if not call.is_callback)

    @property
    def callbacks(self) -> Calls:
        """Every callback."""
        return Calls(call for call in without_allocations(self.recorder.every_call) if call.is_callback)

    @property
    def traps(self) -> list[str]:
        """How callbacks have failed, those too that no request shows: ticks, `on_log`, what comes after an answer."""
        return [call.error for call in self.recorder.every_call if call.is_callback and call.error]

    @property
    def logs(self) -> list[LogLine]:
        """Every line that they, or the host about them, have logged."""
        return self.recorder.lines

    @property
    def trace(self) -> str:
        """All of it as text."""
        return "\n".join(map(str, (self.recorder.every_call, *self.recorder.lines)))


def _spec(upstream: TestUpstream) -> UpstreamSpec:
    return UpstreamSpec(upstream.name, f"http://{upstream.name}")
