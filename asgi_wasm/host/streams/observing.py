"""Plugins in ``mode: observe``: they run as ever, and what they decide is told, never done.

Such a plugin has a chain of its own beside the request's, with all the rules of one, whose far ends only compare. It is
given copies of what comes by; what it would have answered, changed, held back or broken off is noted. It may go on
after the request while it waits for the answer to a call. Attributes are the request's own, whatever it changed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from asgi_wasm.host.abi import CONTINUE, LogLevel, MapType
from asgi_wasm.host.directions import NAMES, REQUEST, sees_body
from asgi_wasm.host.plugin import Plugin
from asgi_wasm.host.ports import LogOrigin
from asgi_wasm.host.streams.filter_chain import FilterChain
from asgi_wasm.host.streams.observed import (
    ANSWER,
    CLOSE,
    FAILURE,
    LATE,
    PAUSE,
    AppEnd,
    ClientEnd,
    ObservedLog,
    ObservedMetrics,
)
from asgi_wasm.host.vm import lifecycle
from asgi_wasm.host.vm.contexts import RootContext, StreamContext
from asgi_wasm.host.vm.log_lines import origin_of, request_id_of
from asgi_wasm.specs import Mode

if TYPE_CHECKING:
    from asgi_wasm.host.host_metrics import HostMetrics
    from asgi_wasm.host.plugin import Filter
    from asgi_wasm.host.ports import Effect, Log
    from asgi_wasm.host.streams.buffer import Buffer
    from asgi_wasm.host.streams.header_map import HeaderMap
    from asgi_wasm.host.streams.stage import Stage
    from asgi_wasm.host.vm.contexts import Context, Vm
    from asgi_wasm.limits import StreamLimits

# Requests that are over and for which a plugin still waits; what came first is given up.
MOST_LATE = 100


class ObservingChain(FilterChain):
    """A chain in which some filters observe."""

    def _open(self, stage: Stage) -> None:
        plugin_filter = self._filters[stage.index]
        if plugin_filter.spec.mode is not Mode.OBSERVE:
            super()._open(stage)
            return
        shadow = Shadow(plugin_filter, self, self._limits, self._log, self._host_metrics)
        stage.context = Observer(plugin_filter, shadow)
        self.contexts.append(stage.context)

    def leave(self) -> None:
        """The client has gone before it had its response; `finish` follows."""
        for context in self.contexts:
            if isinstance(context, Observer):
                context.shadow.leave()
            else:
                lifecycle.end_callouts(context)


class _QuietVm:
    """Stands where a chain has the VM of an observing filter: nothing of it is called, and nothing of it can fail."""

    failure = None
    effects = ()
    on_context_create = on_log = on_done = on_delete = None
    on_headers = on_body = on_trailers = (None, None)

    def check_thread(self) -> None:
        """The plugin's own VM does."""

    def forget(self, context: Context) -> None:
        """The request is over."""
        if isinstance(context, Observer):
            context.shadow.conclude()


_QUIET = cast("Vm", _QuietVm())


class Observer(StreamContext):
    """In the request's chain: hands copies of all that passes to the plugin's own chain, and lets it pass."""

    __slots__ = ("_sees_body", "shadow")

    def __init__(self, plugin_filter: Filter, shadow: Shadow) -> None:
        super().__init__(0, RootContext(0, _QUIET, plugin_filter.spec, plugin_filter.conf), shadow.outer)
        plugin = plugin_filter.plugin
        self._sees_body = sees_body(plugin.callbacks if isinstance(plugin, Plugin) else ())
        self.shadow = shadow

    def headers(self, direction: int, headers: HeaderMap, end_of_stream: bool) -> int:
        """Show the plugin's own chain a copy of the headers."""
        self.shadow.see_headers(direction, headers, end_of_stream)
        return CONTINUE

    def body(self, direction: int, buffer: Buffer, end_of_stream: bool) -> int:
        """Show the plugin's own chain a copy of the piece."""
        self.shadow.see_data(direction, bytes(buffer.data), end_of_stream)
        return CONTINUE

    def trailers(self, direction: int, trailers: HeaderMap) -> int:
        """Show the plugin's own chain a copy of the trailers."""
        self.shadow.see_trailers(direction, trailers)
        return CONTINUE

    def sees_body(self, direction: int) -> bool:
        """Whether the plugin has a callback for it."""
        return self._sees_body[direction]


def _copied(headers: HeaderMap) -> HeaderMap:
    return type(headers)(headers.pairs)


class Shadow(FilterChain):
    """The chain of one plugin that observes one request of the chain ``outer``."""

    def __init__(
        self, plugin_filter: Filter, outer: FilterChain, limits: StreamLimits, log: Log, metrics: HostMetrics
    ) -> None:
        self.outer = outer
        self._plugin = plugin_filter.plugin
        self._notes: set[str] = set()
        self._real_log, self._real_metrics = log, metrics
        self._to_app = AppEnd(self.note)
        self._to_client = ClientEnd(self.note, lambda: self.answered_locally)
        ends = self._to_app, self._to_client
        quiet = ObservedLog(log), ObservedMetrics(self.note)
        super().__init__((plugin_filter,), *ends, outer.attributes, limits, *quiet)
        self.properties, self.read_only_properties = dict(outer.properties), set(outer.read_only_properties)
        # Of the response, while the plugin holds the request back; None when that became too much.
        self._pending: list[Callable[[], object]] | None = []
        self._pending_bytes = 0
        # Inside of one of the steps below: what a callback asks for there is looked at when that is over.
        self._busy = False
        # The real request is over.
        self._over = False

    def note(self, verdict: str, words: str) -> None:
        """Tell what it would have done; each kind of verdict once a request."""
        if verdict in self._notes or (verdict in (ANSWER, CLOSE) and FAILURE in self._notes):
            # What a failure comes to is told with it.
            return
        self._notes.add(verdict)
        spec = self._plugin.spec
        self._plugin.observed[verdict] = self._plugin.observed.get(verdict, 0) + 1
        self._real_metrics.observed(spec.name, verdict)
        head = self._to_app.given_headers
        method, path = ((head and head.get(name)) or b"" for name in (b":method", b":path"))
        about = (method + b" " + path.partition(b"?")[0]).decode("latin-1")
        told = f"observed only: it would have {words} ({about})"
        origin = origin_of(self.contexts[0]) if self.contexts else LogOrigin(spec.vm_id, 0, request_id_of(self))
        self._real_log.host(spec.name, LogLevel.INFO, told, origin)

    # --- what comes by

    def see_headers(self, direction: int, headers: HeaderMap, end_of_stream: bool) -> None:
        """The head of either direction."""
        given = _copied(headers)
        if direction == REQUEST:
            self._to_app.given_headers = given
            self._run(partial(self.request.headers, _copied(headers), end_of_stream))
        else:
            self._to_client.given_headers = given
            self._run_later(partial(self.respond, _copied(headers), end_of_stream))

    def see_data(self, direction: int, data: bytes, end_of_stream: bool) -> None:
        """A piece of a body."""
        if direction == REQUEST:
            self._to_app.given.add(data)
            if not self.request.closed:
                self._run(partial(self.request.data, data, end_of_stream))
        else:
            self._to_client.given.add(data)
            self._run_later(partial(self._go_on, "data", data, end_of_stream), len(data))

    def see_trailers(self, direction: int, trailers: HeaderMap) -> None:
        """The trailers of either direction."""
        if direction == REQUEST:
            self._to_app.given_trailers = _copied(trailers)
            if not self.request.closed:
                self._run(partial(self.request.trailers, _copied(trailers)))
        else:
            self._to_client.given_trailers = _copied(trailers)
            self._run_later(partial(self._go_on, "trailers", _copied(trailers)))

    def _go_on(self, part: str, *arguments: object) -> None:
        if self.response is not None and not self.response.closed:
            getattr(self.response, part)(*arguments)

    def _run(self, step: Callable[[], object]) -> None:
        self._busy = True
        try:
            step()
        finally:
            self._busy = False
        self._settle()

    def _run_later(self, step: Callable[[], object], size: int = 0) -> None:
        """A step of the response: not before the plugin lets go of the request, since it would not have been there."""
        if self.answered_locally or self.is_finished or self._pending is None:
            return
        if self.request.paused_by is None and not self._pending:
            self._run(step)
            return
        self._pending_bytes += size
        self._pending.append(step)
        if self._pending_bytes > self._limits.response_body:
            self._pending = None

    # --- what comes of it

    def apply(self, effect: Effect) -> None:
        """What the plugin asks for has its effect here alone."""
        super().apply(effect)
        self._settle()

    def abandoned(self, context: StreamContext) -> None:
        """Its VM failed elsewhere."""
        super().abandoned(context)
        self._settle()

    def _settle(self) -> None:
        if self._busy or self.is_finished:
            return
        while self._pending and self.request.paused_by is None:
            steps, self._pending = self._pending, []
            for step in steps:
                if not self.answered_locally:
                    self._run(step)
        for direction in (self.request, self.response):
            if direction is not None and direction.paused_by is not None:
                self.note(PAUSE, f"held the {NAMES[direction.kind]} back")
        if self._over and not self._is_waiting:
            self._end()

    @property
    def _is_waiting(self) -> bool:
        return any(way is not None and way.paused_by is not None for way in (self.request, self.response))

    def conclude(self) -> None:
        """The request is over. Not so for a plugin that still holds it: it may be waiting for an answer."""
        if self.is_finished:
            return
        self._over = True
        if not self._is_waiting:
            self._end()
            return
        late = self._plugin.late
        late[id(self)] = self
        if len(late) > MOST_LATE:
            late[next(iter(late))].give_up()

    def give_up(self) -> None:
        """End it, though it has not come to a verdict."""
        self.note(LATE, "let the request wait for longer than it took")
        self._end()

    def leave(self) -> None:
        """The client has gone: so has whatever it waited for."""
        super().leave()
        self._end()

    def _end(self) -> None:
        self._plugin.late.pop(id(self), None)
        self.finish()

    def logged_map(self, map_type: MapType) -> HeaderMap | None:
        """Its own; of a request that it was not shown, the real ones."""
        found = super().logged_map(map_type)
        return found if found is not None or self._to_app.given_headers is not None else self.outer.logged_map(map_type)
