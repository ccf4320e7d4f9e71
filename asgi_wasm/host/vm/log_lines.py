"""A plugin's log lines on their way to the port: told where they are from, cut where they are long, dropped where they
are too many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.ports import LogOrigin
from asgi_wasm.host.resident.layout import REQUEST_SLOT

if TYPE_CHECKING:
    from asgi_wasm.host.ports import Ports
    from asgi_wasm.host.resident.lent import Lent
    from asgi_wasm.host.vm.contexts import Context
    from asgi_wasm.limits import PluginLimits
    from asgi_wasm.specs import PluginSpec

_SECOND = 1_000_000_000
_REQUEST_ID = b"x-request-id"


class Writer(Protocol):
    """What is asked of the VM whose lines they are."""

    spec: PluginSpec
    lent: dict[int, Lent]

    @property
    def context(self) -> Context | None:
        """Whom a hostcall acts for."""
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

    def lowest(self) -> LogLevel:
        """The lowest level that is kept of the plugin that acts now: its logger's, or the settings' if that is more."""
        context = self._writer.context
        spec = self._writer.spec if context is None else context.root.spec
        return max(self._ports.log.level(spec.name), LogLevel(spec.log_level))

    def write(self, plugin: str, level: LogLevel, message: bytes, size: int) -> None:
        """One line, of a level that is kept; ``message`` is what was read of ``size`` bytes, at most
        ``limits.log_line_bytes``.
        """
        if not self._admits(plugin):
            return
        if size > len(message):
            self._ports.host_metrics.limit_reached(plugin, "log_line_bytes")
            message += b"... (%d bytes in all)" % size
        self._ports.log.plugin(plugin, level, message, self._origin())

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

    def _origin(self) -> LogOrigin:
        """Where the line is from."""
        context = self._writer.context
        if context is None:
            return LogOrigin(self._writer.spec.vm_id)
        stream_id = context.stream_id
        return LogOrigin(context.root.spec.vm_id, stream_id or context.root.id, self._request_id(context, stream_id))

    def _request_id(self, context: Context, stream_id: int) -> bytes:
        """As the property ``request.id``; a kernel need not hand its request over for that."""
        lent = self._writer.lent.get(stream_id)
        if lent is not None:
            fields = lent.flat(REQUEST_SLOT)
            return next((fields[at + 1] for at in range(0, len(fields), 2) if fields[at] == _REQUEST_ID), b"")
        found = context.stream.chain.attributes.get((b"request", b"id")) if context.stream is not None else None
        return found if isinstance(found, bytes) else b""
