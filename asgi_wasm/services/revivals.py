"""Starts plugins again whose VMs failed and that may not wait for a request to do it: services, owners of queues."""

from __future__ import annotations

import asyncio

from asgi_wasm.errors import PluginAwayError, PluginError
from asgi_wasm.host.effects import StartAgain
from asgi_wasm.logs import get_logger

logger = get_logger("asgi_wasm.host")


class Revivals:
    """One timer for each that is away."""

    def __init__(self) -> None:
        self._timers: dict[StartAgain, asyncio.TimerHandle] = {}
        # Why each could not be started the last time: what goes on failing in the same way is said once.
        self._told: dict[StartAgain, str] = {}
        self._closed = False

    def add(self, effect: StartAgain) -> None:
        """Start it as soon as it may be, and again if that fails. Needs a running event loop."""
        if not self._closed:
            self._arm(effect)

    def _arm(self, effect: StartAgain) -> None:
        loop = asyncio.get_running_loop()
        self._timers[effect] = loop.call_later(effect.recovery.seconds_left(), self._try, effect)

    def _try(self, effect: StartAgain) -> None:
        del self._timers[effect]
        try:
            effect.start()
        except PluginAwayError:
            # The timer was early by a rounding.
            self._arm(effect)
        except PluginError as error:
            if self._told.get(effect) != str(error):
                logger.error("%s", error, extra={"plugin": error.plugin})
            self._told[effect] = str(error)
            self._arm(effect)
        else:
            self._told.pop(effect, None)

    def close(self) -> None:
        """Start nothing any more."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
