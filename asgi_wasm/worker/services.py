"""The services that a worker is made with. Those of a server are the system's; tests have others (`testing`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from asgi_wasm.host.ports import Clock, Log
from asgi_wasm.services.callouts.grpc.calls import GrpcCalls
from asgi_wasm.services.callouts.http_calls import HttpCalls
from asgi_wasm.services.clock import SystemClock
from asgi_wasm.services.log import StandardLog
from asgi_wasm.services.ticks import Ticks
from asgi_wasm.specs import UpstreamSpec
from asgi_wasm.waits import Timers
from asgi_wasm.worker.loading import MakeEngine, engine_of


@dataclass(frozen=True)
class Services:
    """How each is made, in the event loop of its worker. ``http_calls`` gets the most bytes of an answer too."""

    engine: MakeEngine = engine_of
    log: Callable[[], Log] = StandardLog
    clock: Callable[[], Clock] = SystemClock
    ticks: Callable[[], Ticks] = Ticks
    http_calls: Callable[[Iterable[UpstreamSpec], int], HttpCalls] = HttpCalls
    grpc_calls: Callable[[Iterable[UpstreamSpec]], GrpcCalls] = GrpcCalls
    # What pauses of streams are timed by; None for the event loop.
    timers: Timers | None = None


SYSTEM = Services()
