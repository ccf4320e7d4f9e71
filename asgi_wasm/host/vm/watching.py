"""Watches a VM's callbacks for the host's own metrics: how long each took, and what the plugin decided there.

A callback is wrapped when it is resolved, so that nothing is asked on any call while nobody counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from asgi_wasm.engines.base import GuestFunction
from asgi_wasm.host.effects import CloseStream, ContinueStream, LocalResponse
from asgi_wasm.host.ports import NANOSECOND

if TYPE_CHECKING:
    from asgi_wasm.host.host_metrics import HostMetrics
    from asgi_wasm.host.ports import Effect, Ports

CONTINUE, PAUSE, LOCAL_RESPONSE, RESET, RESUME = ACTIONS = ("continue", "pause", "local_response", "reset", "resume")
# Effects that are decisions on a stream; the first two make the verdict of the callback void.
_DECISIONS: dict[type[Effect], str] = {LocalResponse: LOCAL_RESPONSE, CloseStream: RESET, ContinueStream: RESUME}
_VOIDING = (LocalResponse, CloseStream)
# Callbacks whose result says whether the stream goes on.
_DECIDING = frozenset(
    f"proxy_on_{way}_{part}" for way in ("request", "response") for part in ("headers", "body", "trailers")
)


class _Meter:
    """What one plugin did in one callback."""

    def __init__(self, metrics: HostMetrics, plugin: str, callback: str) -> None:
        self.took = metrics.timer(plugin, callback)
        self._metrics = metrics
        self._labels = plugin, callback
        self._decisions: dict[str, Callable[[], object]] = {}

    def decided(self, action: str) -> None:
        """Count a decision."""
        count = self._decisions.get(action)
        if count is None:
            count = self._decisions[action] = self._metrics.decision(*self._labels, action)
        count()

    def decided_by(self, effects: list[Effect]) -> bool:
        """Count the decisions among what the callback left behind; whether they make its verdict void."""
        for effect in effects:
            if type(effect) in _DECISIONS:
                self.decided(_DECISIONS[type(effect)])
        return any(isinstance(effect, _VOIDING) for effect in effects)


def watched(
    ports: Ports, name: str, function: GuestFunction, caller: Callable[[], str], left_behind: list[Effect]
) -> GuestFunction:
    """What to call instead of this export: itself, unless somebody counts and it is a callback of a context.

    ``caller`` tells whose callback runs, ``left_behind`` is where its effects are.
    """
    metrics = ports.host_metrics
    if not metrics.enabled or not name.startswith("proxy_on_") or name == "proxy_on_memory_allocate":
        return function
    monotonic = ports.clock.monotonic
    decides = name in _DECIDING
    # By plugin: several may share the VM.
    meters: dict[str, _Meter] = {}

    def call(*arguments: int) -> int | None:
        plugin = caller()
        meter = meters.get(plugin)
        if meter is None:
            meter = meters[plugin] = _Meter(metrics, plugin, name.removeprefix("proxy_"))
        left = len(left_behind)
        began = monotonic()
        try:
            verdict = function(*arguments)
        finally:
            meter.took((monotonic() - began) * NANOSECOND)
        void = len(left_behind) > left and meter.decided_by(left_behind[left:])
        if decides and not void:
            meter.decided(PAUSE if verdict else CONTINUE)
        return verdict

    return call
