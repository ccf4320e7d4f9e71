"""Plugins that hold a stream: which one does, and the end of a pause that nothing ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.streams.local_reply import PAUSED_TOO_LONG
from asgi_wasm.host.vm.log_lines import origin_of

if TYPE_CHECKING:
    from asgi_wasm.asgi.exchange.environment import Environment
    from asgi_wasm.host.streams.filter_chain import FilterChain
    from asgi_wasm.host.vm.contexts import StreamContext


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
    told = f"paused a stream for {seconds:g} s: it is answered 504"
    environment.log.host(plugin, LogLevel.ERROR, told, origin_of(holder))
    chain.refuse(PAUSED_TOO_LONG)
    if paused_by(chain) is not None:
        # It was an answer already, and has started: there is no second one.
        chain.reset(f"plugin {plugin!r} paused it for {seconds:g} s")
