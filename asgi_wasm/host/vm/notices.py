"""What the log is told of a VM once, however often it happens: a plugin may try for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from asgi_wasm.host.abi import LogLevel

if TYPE_CHECKING:
    from asgi_wasm.host.ports import LimitReachedError, LogOrigin, Ports


class Notices:
    """Those of one VM. ``plugin`` is whose hostcall it was, and ``origin`` tells where that was."""

    def __init__(self, ports: Ports, origin: Callable[[], LogOrigin]) -> None:
        self._ports = ports
        self._origin = origin
        self._limits: set[str] = set()
        self._told_of_upstream = False

    def limit_reached(self, plugin: str, error: LimitReachedError) -> None:
        """A limit refused something; it is counted each time."""
        self._ports.host_metrics.limit_reached(plugin, error.limit)
        if error.limit not in self._limits:
            self._limits.add(error.limit)
            self._ports.log.host(
                plugin, LogLevel.WARN, f"what it asked for was refused: {error} (said once)", self._origin()
            )

    def unknown_upstream(self, plugin: str, upstream: str) -> None:
        """It calls what the settings do not name, and gets a status alone."""
        if not self._told_of_upstream:
            self._told_of_upstream = True
            known = ", ".join(sorted(self._ports.upstreams)) or "none"
            problem = f"it calls the upstream {upstream!r}, which the settings do not name (they name: {known})"
            self._ports.log.host(plugin, LogLevel.WARN, problem, self._origin())
