"""Guests at a limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from asgi_wasm.host.abi import ProxyStatus
from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.host.host_metrics import NoHostMetrics
from asgi_wasm.limits import PluginLimits
from tests.host.fed import REQUEST_HEADERS
from tests.host.guest import Calls, in_phase
from tests.host.world import World

INTERNAL_FAILURE, INVALID_MEMORY_ACCESS = ProxyStatus.INTERNAL_FAILURE, ProxyStatus.INVALID_MEMORY_ACCESS
CALL = encode_pairs([(b":method", b"GET"), (b":path", b"/"), (b":authority", b"a")])
SIZE = sum(len(name) + len(value) for name, value in REQUEST_HEADERS)


class CountingMetrics(NoHostMetrics):
    """`host.host_metrics.HostMetrics` that keeps which limits were reached."""

    def __init__(self) -> None:
        self.reached: list[tuple[str, str]] = []

    def limit_reached(self, plugin: str, limit: str) -> None:
        self.reached.append((plugin, limit))


class Clock:
    """`host.ports.Clock` that a test moves."""

    def __init__(self) -> None:
        self.now = 5_000_000_000

    def realtime(self) -> int:
        return self.now

    def monotonic(self) -> int:
        return self.now


def counting() -> tuple[World, CountingMetrics, Clock]:
    world, metrics, clock = World(), CountingMetrics(), Clock()
    world.ports = replace(world.ports, host_metrics=metrics, clock=clock)
    return world, metrics, clock


def acts(phase: str, act: Callable[[Calls], Any], **limits: int) -> tuple[Any, list[str], World]:
    """What ``act`` gives in this callback under these limits; the limits that were reached; the ports."""
    world, metrics, _ = counting()
    result = in_phase(phase, act, world=world, limits=PluginLimits(**limits))
    assert all(plugin == "guest" for plugin, _ in metrics.reached)
    return result, [limit for _, limit in metrics.reached], world
