"""`proxy_on_tick` by the event loop's timers.

Followed: Envoy `source/extensions/common/wasm/wasm.cc` (`setTimerPeriod`, `tickHandler`).
"""

from __future__ import annotations

import asyncio

from asgi_wasm.host.effects import EndCallouts, SetTickPeriod
from asgi_wasm.host.vm.contexts import RootContext
from asgi_wasm.services.callouts.deadline import CallLater

_MILLISECONDS = 1000


class Ticks:
    """One timer for each root context that asked for one.

    A tick comes one period after it was asked for, or after the last one was over. Periods belong to the root context:
    the one that takes its place after its VM failed has none until it asks.
    """

    def __init__(self, call_later: CallLater | None = None) -> None:
        """``call_later`` is used in place of the running event loop's."""
        self._call_later = call_later
        self._periods: dict[RootContext, float] = {}
        self._timers: dict[RootContext, asyncio.TimerHandle] = {}
        self._closed = False

    def set(self, effect: SetTickPeriod) -> None:
        """Start, change or (by 0) stop the ticks of a root context. Needs a running event loop."""
        root = effect.root
        self.forget(root)
        # One that is told of its end may still ask.
        if effect.milliseconds and not (self._closed or root.deleted):
            self._periods[root] = effect.milliseconds / _MILLISECONDS
            self._arm(root)

    def _arm(self, root: RootContext) -> None:
        call_later = self._call_later or asyncio.get_running_loop().call_later
        self._timers[root] = call_later(self._periods[root], self._tick, root)

    def _tick(self, root: RootContext) -> None:
        """A period is over: the callback, and the next period.

        Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_tick
        Follows: Envoy `Wasm::tickHandler` (`source/extensions/common/wasm/wasm.cc`).
        """
        del self._timers[root]
        root.notify("proxy_on_tick")
        if root in self._periods and root not in self._timers:
            # Neither stopped nor changed by the callback itself, nor ended with its VM there.
            self._arm(root)

    def end(self, effect: EndCallouts) -> None:
        """Stop the ticks of a root context that is gone."""
        self.forget(effect.root)

    def forget(self, root: RootContext) -> None:
        """Stop the ticks of a root context."""
        self._periods.pop(root, None)
        timer = self._timers.pop(root, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Stop all of them, for good."""
        self._closed = True
        for root in list(self._periods):
            self.forget(root)
