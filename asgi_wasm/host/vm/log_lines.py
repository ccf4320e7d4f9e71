"""A plugin's log lines on their way to the port: cut where they are long, dropped where they are too many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from asgi_wasm.host.abi import LogLevel

if TYPE_CHECKING:
    from asgi_wasm.host.ports import LogOrigin, Ports
    from asgi_wasm.limits import PluginLimits

_SECOND = 1_000_000_000


class Writer(Protocol):
    """What is asked of the VM whose lines they are."""

    def log_level(self) -> LogLevel:
        """The lowest level that is kept of the plugin that acts now."""
        ...

    def log_origin(self) -> LogOrigin:
        """Where it is."""
        ...


class LogLines:
    """Those of one VM. A line that the logger does not keep costs nothing, and is not counted."""

    def __init__(self, ports: Ports, limits: PluginLimits, writer: Writer) -> None:
        self._ports = ports
        self._writer = writer
        self._limits = limits
        self._began = 0
        self._lines = 0
        self._dropped = 0

    def write(self, plugin: str, level: LogLevel, message: bytes, size: int) -> None:
        """One line, of a level that is kept; ``message`` is what was read of ``size`` bytes, at most
        ``limits.log_line_bytes``.
        """
        if not self._admits(plugin):
            return
        if size > len(message):
            self._ports.host_metrics.limit_reached(plugin, "log_line_bytes")
            message += b"... (%d bytes in all)" % size
        self._ports.log.plugin(plugin, level, message, self._writer.log_origin())

    def host(self, plugin: str, level: LogLevel, sentence: str) -> None:
        """One line of the host about what a hostcall did: a plugin may make it again and again."""
        if self._admits(plugin):
            self._ports.log.host(plugin, level, sentence)

    def _admits(self, plugin: str) -> bool:
        now, most = self._ports.clock.monotonic(), self._limits.log_lines_per_second
        if now - self._began >= _SECOND:
            dropped, self._began, self._lines, self._dropped = self._dropped, now, 0, 0
            if dropped:
                self._tell(plugin, f"{dropped} log lines were dropped: limits.log_lines_per_second is {most}")
        self._lines += 1
        if self._lines <= most:
            return True
        self._ports.host_metrics.limit_reached(plugin, "log_lines_per_second")
        self._dropped += 1
        if self._dropped == 1:
            # It may never log again, and so never be told how many they were.
            self._tell(plugin, f"logs more than {most} lines a second (limits.log_lines_per_second): drops the rest")
        return False

    def _tell(self, plugin: str, sentence: str) -> None:
        self._ports.log.host(plugin, LogLevel.WARN, sentence)
