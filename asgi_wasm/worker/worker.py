"""The worker: the services and plugins of one middleware in one event loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi.exchange.environment import Environment
from asgi_wasm.asgi.lane.lane import Lane
from asgi_wasm.asgi.properties import properties_of
from asgi_wasm.asgi.refusal import refuse_unrouted, settle_slashes
from asgi_wasm.foreign.calls import ForeignCalls
from asgi_wasm.foreign.envoy import ENVOY_FUNCTIONS
from asgi_wasm.foreign.expressions import Expressions
from asgi_wasm.foreign.signatures import Signatures
from asgi_wasm.host.effects import (
    EndCallouts,
    EndStreamCallouts,
    ForeignCall,
    HttpCall,
    SetTickPeriod,
    StartAgain,
)
from asgi_wasm.host.ports import Clock, Effect, Log, Ports
from asgi_wasm.host.vm.vm import ForeignFunction
from asgi_wasm.services.callouts.grpc.calls import STARTED_BY
from asgi_wasm.services.home import HomeLoop
from asgi_wasm.services.revivals import Revivals
from asgi_wasm.services.stores.store import open_store
from asgi_wasm.specs import EscapedSlashes, RemoteFile
from asgi_wasm.worker.loading import Loader, Plugins
from asgi_wasm.worker.services import SYSTEM, Services
from asgi_wasm.worker.status import PluginStatus, routes_of, statuses
from asgi_wasm.worker.telemetry import Telemetry
from asgi_wasm.worker.tracing import Tracing
from asgi_wasm.worker.watch import require_watchfiles, states

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send
    from asgi_wasm.services.traces.requests import TracedRequest
    from asgi_wasm.specs import HostSpec
    from asgi_wasm.worker.routing import Filters
    from asgi_wasm.worker.shared import Shared

from asgi_wasm.logs import get_logger

logger = get_logger("asgi_wasm.host")


class Worker:
    """The services and plugins of one middleware in one event loop: what must not leave that loop."""

    def __init__(
        self,
        app: ASGIApp,
        spec: HostSpec,
        foreign_functions: Mapping[str, ForeignFunction],
        shared: Shared,
        services: Services = SYSTEM,
    ) -> None:
        """To be made in its event loop. ``shared`` is what it has in common with the workers of other loops."""
        log = services.log()
        self._shared = shared
        if spec.watch:
            require_watchfiles()
        # The files to follow, and the seconds that what it replaces may still take.
        self.watched = states(_files(spec) if spec.watch else ())
        self.drain_timeout = spec.drain_timeout
        self._ticks = services.ticks()
        self._revivals = Revivals()
        self._http_calls = services.http_calls(spec.upstreams, spec.call_response_limit)
        self._foreign_calls = ForeignCalls()
        self._store = open_store(spec.store, shared.memory)
        clock = services.clock()
        self._telemetry = Telemetry(spec, clock, self._store, shared)
        self._grpc_calls = services.grpc_calls(spec.upstreams)
        self._tracing = Tracing(spec)
        self.routes, self.trace_requests = routes_of(spec), spec.trace_requests
        ports = self._ports(log, clock)
        self._carriers = self._carriers_of_effects()
        self.environment = Environment(app, spec.limits, log, spec.pause_timeout, ports.host_metrics, services.timers)
        own = {**ENVOY_FUNCTIONS, **Signatures().functions, **Expressions().functions}
        self._loader = Loader(ports, {**own, **foreign_functions}, services.engine)
        self.plugins = Plugins()
        self._escaped_slashes = spec.paths.escaped_slashes
        # Whether `admit` is to be asked at all.
        self.is_strict = spec.deny_unrouted or self._escaped_slashes is not EscapedSlashes.KEEP_UNCHANGED
        # By the identity of their filters, which each lane keeps alive.
        self._lanes: dict[int, Lane] = {}
        # That of all HTTP requests, where no settings tell them apart.
        self.sole_lane: Lane | None = None

    def _ports(self, log: Log, clock: Clock) -> Ports:
        """What plugins are answered by at once, and where their effects go."""
        return Ports(
            log=log,
            clock=clock,
            random=os.urandom,
            shared_data=self._store.shared_data,
            queues=self._store.queues,
            metrics=self._telemetry.metrics,
            start=self._start_effect,
            upstreams=self._http_calls.names,
            host_metrics=self._telemetry.host_metrics,
            can_call_grpc=self._grpc_calls.can_call,
            has_room_grpc=self._grpc_calls.has_room,
            may_send_grpc=self._grpc_calls.may_send,
            thread=get_ident,
            is_home=HomeLoop().runs_here,
            sinks=self._tracing.sinks,
        )

    def _carriers_of_effects(self) -> dict[type[Effect], tuple[Callable[[Any], None], ...]]:
        """Every effect for a root context, and who carries it out, in this order."""
        return {
            SetTickPeriod: (self._ticks.set,),
            HttpCall: (self._http_calls.start,),
            ForeignCall: (self._foreign_calls.start,),
            **dict.fromkeys(STARTED_BY, (self._grpc_calls.start,)),
            EndCallouts: (self._grpc_calls.end, self._http_calls.end, self._foreign_calls.end, self._ticks.end),
            EndStreamCallouts: (self._http_calls.leave, self._grpc_calls.leave),
            StartAgain: (self._revivals.add,),
        }

    def _start_effect(self, effect: Effect) -> None:
        effect = self._tracing.carried(effect)
        for carry_out in self._carriers[type(effect)]:
            carry_out(effect)

    async def start(self, spec: HostSpec) -> None:
        """Load and start every plugin; one that fails stays in the chain for its failure policy.

        `stop` or `abandon` must follow once, also when this raises.
        """
        self._shared.enter()
        await self._store.start()
        self.plugins = await self._loader.load(spec)
        filters = self.plugins.router.sole
        if filters and not self.is_strict:
            self.sole_lane = self.lane(filters)
        sharing = self.plugins.sharing_state()
        if sharing and spec.store.scheme == "memory" and self._shared.is_second_process():
            logger.warning(
                "several workers run, and what plugin %s may keep in shared data or queues is each worker's own with "
                "shared_data memory://: set it to lmdb:///path (one machine) or redis://host:port/0 (several), "
                "unless it keeps nothing there",
                ", ".join(map(repr, sharing)),
            )

    def is_idle(self) -> bool:
        """Whether no request runs here, and no plugin waits for an answer."""
        waits = self._http_calls.under_way or self._foreign_calls.under_way or self._grpc_calls.under_way
        return not waits and not self._loader.has_streams()

    def status(self) -> tuple[PluginStatus, ...]:
        """How each plugin is."""
        return statuses(self.plugins, self.environment.log)

    def traces(self) -> tuple[TracedRequest, ...]:
        """The last requests, the latest first; none, unless the settings want some."""
        kept = self._tracing.requests
        return () if kept is None else tuple(reversed(kept.kept))

    def leave_out(self, scope: Scope) -> None:
        """Keep no trace of the request that an app was called with."""
        if self._tracing.requests is not None:
            self._tracing.requests.leave_out(properties_of(scope))

    async def stop(self) -> None:
        """End every plugin, then free the VMs."""
        self._ticks.close()
        self._revivals.close()
        await self._http_calls.close()
        await self._foreign_calls.close()
        self.plugins.stop()
        await self._grpc_calls.close()
        self._loader.close()
        self._telemetry.close()
        await self._store.stop()
        self._shared.leave()

    def is_whole(self) -> bool:
        """Whether its plugins may still be called."""
        return self._loader.is_whole()

    def abandon(self) -> None:
        """Free the VMs of an event loop that was closed before. From any thread.

        Plugins do not hear of it: none may be entered outside of its event loop.
        """
        self._ticks.close()
        self._revivals.close()
        self._http_calls.abandon()
        self._foreign_calls.abandon()
        self._grpc_calls.abandon()
        self._loader.discard()
        self._telemetry.close()
        self._store.abandon()
        self._shared.leave()

    async def admit(self, filters: Filters | None, scope: Scope, receive: Receive, send: Send) -> Scope | None:
        """The scope to go on with, or None when the settings had the request answered."""
        if filters is None:
            await refuse_unrouted(scope, receive, send)
            return None
        return await settle_slashes(self._escaped_slashes, scope, receive, send)

    def lane(self, filters: Filters) -> Lane:
        """The lane of a request with these filters, made when the first comes."""
        lane = self._lanes.get(id(filters))
        if lane is None:
            lane = self._lanes[id(filters)] = Lane(self.environment, filters)
        return lane


def _files(spec: HostSpec) -> Iterator[Path]:
    """All that a change of is a reload. What is fetched stays the same, by its digest."""
    yield from spec.sources
    for plugin in spec.plugins:
        if not isinstance(plugin.file, RemoteFile):
            yield plugin.file
