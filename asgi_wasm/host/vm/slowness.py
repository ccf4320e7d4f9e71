"""How long a VM may hold the event loop, and what the log is told before that.

Nothing is asked on any call: the engine looks at a guest that runs for long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from asgi_wasm.engines.base import TimeLimit
from asgi_wasm.host.abi import LogLevel

if TYPE_CHECKING:
    from asgi_wasm.host.ports import LogOrigin, Ports
    from asgi_wasm.limits import PluginLimits

# A plugin that is always slow is told of so often.
_QUIET_NANOSECONDS = 60_000_000_000


def time_limit(
    limits: PluginLimits, ports: Ports, plugin_name: Callable[[], str], origin: Callable[[], LogOrigin]
) -> TimeLimit:
    """The limit of each entry into a VM, in which ``plugin_name`` tells who runs, and ``origin`` for which context."""
    told_at = 0
    untold = 0

    def on_slow(callback: str, seconds: float) -> None:
        nonlocal told_at, untold
        now = ports.clock.monotonic()
        if told_at and now - told_at < _QUIET_NANOSECONDS:
            untold += 1
            return
        more = f" ({untold} more since the last such line)" if untold else ""
        told_at, untold = now, 0
        ports.log.host(
            plugin_name(),
            LogLevel.WARN,
            f"{callback} has run for {seconds * 1000:.0f} ms, and nobody else is served meanwhile"
            f" (limits.slow_callback_ms is {limits.slow_callback_ms}){more}",
            origin(),
        )

    told_as = f"and limits.callback_ms is {limits.callback_ms}"
    return TimeLimit(limits.callback_ms / 1000, limits.slow_callback_ms / 1000, on_slow, told_as)
