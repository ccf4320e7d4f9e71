"""What every exchange of one middleware shares, and the chain of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asgi_wasm.asgi.properties import ScopeAttributes
from asgi_wasm.host.host_metrics import NO_HOST_METRICS, HostMetrics
from asgi_wasm.host.streams.filter_chain import FilterChain
from asgi_wasm.host.streams.observing import ObservingChain
from asgi_wasm.limits import StreamLimits
from asgi_wasm.specs import Mode

if TYPE_CHECKING:
    from asgi_wasm.asgi.exchange.sides import RequestSide, ResponseSide
    from asgi_wasm.asgi.types import ASGIApp
    from asgi_wasm.host.plugin import Filter
    from asgi_wasm.host.ports import Log
    from asgi_wasm.waits import Timers


@dataclass(frozen=True)
class Environment:
    """What every exchange of one middleware shares."""

    app: ASGIApp
    limits: StreamLimits
    log: Log
    # Seconds that a paused stream waits for anything to happen.
    pause_timeout: float
    host_metrics: HostMetrics = NO_HOST_METRICS
    # What pauses are timed by; None for the event loop of each stream.
    timers: Timers | None = None


def make_chain(
    environment: Environment,
    filters: Sequence[Filter],
    to_app: RequestSide,
    to_client: ResponseSide,
    attributes: ScopeAttributes,
) -> FilterChain:
    """The chain between the two far ends. ``attributes`` are given it, to be read from it."""
    shared = environment.limits, environment.log, environment.host_metrics
    kind = ObservingChain if any(each.spec.mode is Mode.OBSERVE for each in filters) else FilterChain
    attributes.chain = chain = kind(filters, to_app, to_client, attributes, *shared)
    return chain
