"""What an HTTP exchange and a WebSocket handshake have in common."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi.properties import PluginProperties, ScopeAttributes
from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.ports import NO_HOST_METRICS, HostMetrics
from asgi_wasm.host.streams.filter_chain import FilterChain
from asgi_wasm.host.streams.local_reply import PAUSED_TOO_LONG
from asgi_wasm.logs import get_logger
from asgi_wasm.specs import StreamLimits

if TYPE_CHECKING:
    from asgi_wasm.asgi.sides import RequestSide, ResponseSide
    from asgi_wasm.asgi.types import ASGIApp, Scope
    from asgi_wasm.host.plan import Plan
    from asgi_wasm.host.plugin import Filter
    from asgi_wasm.host.ports import Log
    from asgi_wasm.host.vm.contexts import StreamContext

logger = get_logger("asgi_wasm.host")

_OWN_KEYS = frozenset({"asgi_wasm"})
# Extensions by which an app sends bytes that no plugin would see.
BYPASSING_EXTENSIONS = ("http.response.pathsend", "http.response.zerocopysend")


@dataclass(frozen=True)
class Environment:
    """What every exchange of one middleware shares."""

    app: ASGIApp
    limits: StreamLimits
    log: Log
    # Seconds that a paused stream waits for anything to happen.
    pause_timeout: float
    host_metrics: HostMetrics = NO_HOST_METRICS


def make_chain(
    environment: Environment,
    filters: Sequence[Filter],
    to_app: RequestSide,
    to_client: ResponseSide,
    attributes: ScopeAttributes,
) -> FilterChain:
    """The chain between the two far ends; ``attributes`` are read from it."""
    shared = environment.limits, environment.log, environment.host_metrics
    attributes.chain = chain = FilterChain(filters, to_app, to_client, attributes, *shared)
    return chain


def guarded_scope(scope: Scope, plan: Plan, properties: dict[bytes, bytes]) -> dict[str, Any]:
    """Our own copy of the scope, with ``asgi_wasm`` in it, and without the extensions that would bypass a plugin."""
    own = dict(scope)
    own["asgi_wasm"] = PluginProperties(properties)
    extensions = scope.get("extensions")
    if extensions and plan.changes_body.response:
        own["extensions"] = {name: value for name, value in extensions.items() if name not in BYPASSING_EXTENSIONS}
    return own


def share_scope(own: Scope, server: Scope) -> None:
    """Let middlewares outside read what the app added to its scope (`route`, `endpoint`, `state`), as without us."""
    for key in own.keys() - server.keys() - _OWN_KEYS:
        server[key] = own[key]


def paused_by(chain: FilterChain) -> StreamContext | None:
    """The filter that holds something back, the request's before the response's."""
    holder = chain.request.paused_by
    return chain.response.paused_by if holder is None and chain.response is not None else holder


def give_up(environment: Environment, chain: FilterChain) -> None:
    """End a pause that nothing ended."""
    holder = paused_by(chain)
    if holder is None:
        return
    plugin, seconds = holder.root.spec.name, environment.pause_timeout
    environment.log.host(plugin, LogLevel.ERROR, f"paused a stream for {seconds:g} s: it is answered 504")
    chain.refuse(PAUSED_TOO_LONG)
    if paused_by(chain) is not None:
        # It was an answer already, and has started: there is no second one.
        chain.reset(f"plugin {plugin!r} paused it for {seconds:g} s")


def tell_cut(to_client: ResponseSide) -> None:
    """Tell of a response that did not get whole to the client."""
    if to_client.reset_reason is not None:
        logger.error("a response was cut off: %s", to_client.reset_reason)
    elif to_client.length.cut is not None:
        logger.error("a response was cut to its length: %s", to_client.length.cut)


def headers_dropped(environment: Environment, filters: Sequence[Filter], names: list[bytes]) -> None:
    """Tell of headers that some plugin wrote and nobody can send."""
    shown = ", ".join(name.decode("latin-1") for name in names)
    plugins = ", ".join(plugin_filter.spec.name for plugin_filter in filters)
    environment.log.host(plugins, LogLevel.WARN, f"left out headers that HTTP cannot carry: {shown}")


def has_left(client_gone: bool, complete: bool) -> bool:
    """Whether a request that ends now has lost its client before the response was whole.

    Servers either say so to whoever receives, or cancel the request's task.
    """
    return not complete and (client_gone or isinstance(sys.exc_info()[1], asyncio.CancelledError))
