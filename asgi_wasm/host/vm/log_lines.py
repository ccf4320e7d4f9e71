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
    from asgi_wasm.host.vm.contexts import Chain, Context
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
        spec = self._spec(self._writer.context)
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
        self._ports.log.plugin(plugin, level, message, self.origin())

    def host(self, level: LogLevel, sentence: str, context: Context | None = None) -> None:
        """One line of the host about what a hostcall did: a plugin may make it again and again.

        ``context`` is whose it was, by default that of whom a hostcall acts for now. The plugin's level in the settings
        counts for it too, but for errors: who wants to hear less of a plugin still hears of those.
        """
        context = context or self._writer.context
        spec = self._spec(context)
        if level >= min(LogLevel(spec.log_level), LogLevel.ERROR) and self._admits(spec.name):
            self._ports.log.host(spec.name, level, sentence, self.origin(context))

    def origin(self, context: Context | None = None) -> LogOrigin:
        """Where a line of this context, or of whom a hostcall acts for now, is from."""
        context = context or self._writer.context
        if context is None:
            return LogOrigin(self._writer.spec.vm_id)
        lent = self._writer.lent.get(context.stream_id)
        if lent is None:
            return origin_of(context)
        # A kernel need not hand its request over for that.
        fields = lent.flat(REQUEST_SLOT)
        found = next((fields[at + 1] for at in range(0, len(fields), 2) if fields[at] == _REQUEST_ID), b"")
        return LogOrigin(context.root.spec.vm_id, context.stream_id, found)

    def _spec(self, context: Context | None) -> PluginSpec:
        return self._writer.spec if context is None else context.root.spec

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
        self._ports.log.host(plugin, LogLevel.WARN, sentence, self.origin())


def origin_of(context: Context) -> LogOrigin:
    """Where a line about this context is from."""
    stream = context.stream
    request_id = b"" if stream is None else request_id_of(stream.chain)
    return LogOrigin(context.root.spec.vm_id, context.stream_id or context.root.id, request_id)


def request_id_of(chain: Chain) -> bytes:
    """As the property ``request.id``; b"" for a request without one."""
    found = chain.attributes.get((b"request", b"id"))
    return found if isinstance(found, bytes) else b""
