"""`proxy_on_tick` by the event loop's timers."""

from __future__ import annotations

import asyncio

from asgi_wasm.host import lifecycle
from asgi_wasm.host.contexts import RootContext
from asgi_wasm.host.effects import SetTickPeriod

_MILLISECONDS = 1000


class Ticks:
    """One timer for each root context that asked for one. First tick one period after it asked."""

    def __init__(self) -> None:
        self._timers: dict[RootContext, asyncio.TimerHandle] = {}

    def set(self, effect: SetTickPeriod) -> None:
        """Start, change or (by 0) stop the ticks of a root context. Needs a running event loop."""
        timer = self._timers.pop(effect.root, None)
        if timer is not None:
            timer.cancel()
        if effect.milliseconds:
            self._schedule(effect)

    def _schedule(self, effect: SetTickPeriod) -> None:
        loop = asyncio.get_running_loop()
        self._timers[effect.root] = loop.call_later(effect.milliseconds / _MILLISECONDS, self._tick, effect)

    def _tick(self, effect: SetTickPeriod) -> None:
        root = effect.root
        if root.deleted or root.vm.failure is not None:
            del self._timers[root]
            return
        # Scheduled before the callback, which may change or stop it.
        self._schedule(effect)
        lifecycle.notify(root, "proxy_on_tick")

    def close(self) -> None:
        """Stop all of them."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
