"""What a plugin did, kept: its calls to the host, its callbacks and its log."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.ports import NO_ORIGIN, LogOrigin
from asgi_wasm.host.signatures import CALLBACKS, HOSTCALLS
from asgi_wasm.host.vm.trace import Call
from asgi_wasm.logs import escape
from asgi_wasm.services.traces.text import render

# Of hostcalls and callbacks, as tests write them.
_NAMES = {row.name.removeprefix("proxy_") for row in (*HOSTCALLS, *CALLBACKS)}

_ALLOCATORS = ("malloc", "proxy_on_memory_allocate")
# As `host.vm.notices` has it.
_UNKNOWN_UPSTREAM = re.compile(r"it calls the upstream '([^']*)', which the settings do not name ")

__all__ = ["Call", "Calls", "LogLine", "Recorder"]


class Calls(list[Call]):
    """Calls in the order in which they began."""

    def named(self, name: str) -> Calls:
        """Those of this name; ``proxy_`` may be left out. Raises ValueError for a name that looks mistyped."""
        found = Calls(call for call in self if call.name in (name, f"proxy_{name}"))
        if not found and name.removeprefix("proxy_") not in _NAMES:
            close = get_close_matches(name, _NAMES, 1)
            if close:
                raise ValueError(f"no call is named {name!r}; did you mean {close[0]!r}?")
        return found

    @property
    def names(self) -> list[str]:
        """Their names, without ``proxy_``."""
        return [call.name.removeprefix("proxy_") for call in self]

    def __str__(self) -> str:
        return render(self)


@dataclass(frozen=True)
class LogLine:
    """A line that a plugin, or the host about it (``by_host``), has logged."""

    level: str
    text: str
    plugin: str
    by_host: bool = False

    def __str__(self) -> str:
        return f"{self.level:<8} {'host: ' if self.by_host else ''}{self.text}"


class Recorder:
    """`host.ports.Log` and `host.vm.trace.TraceSink`. ``tell`` hears of each call at its end and of each log line."""

    reads_memory = True

    def __init__(self, tell: Callable[[Call | LogLine], object] | None = None) -> None:
        self.every_call = Calls()
        self.lines: list[LogLine] = []
        self.lowest = LogLevel.TRACE
        # How many there were, but for those of allocators; and how to have an upstream that a plugin misses.
        self.callbacks = 0
        self.suggest: Callable[[str], str] = lambda upstream: f"a test plays it by plugin.upstream({upstream!r})"
        self._tell = tell

    # --- host.ports.Log

    def plugin(self, plugin: str, level: LogLevel, message: bytes, origin: LogOrigin = NO_ORIGIN) -> None:
        """One line of a plugin's own words."""
        if level >= self.lowest:
            self._add(LogLine(level.name, escape(message), plugin))

    def host(self, plugin: str, level: LogLevel, message: str, origin: LogOrigin = NO_ORIGIN) -> None:
        """One line of the host about a plugin."""
        if (unknown := _UNKNOWN_UPSTREAM.match(message)) is not None:
            message += f"; {self.suggest(unknown[1])}"
        self._add(LogLine(level.name, escape(message), plugin, by_host=True))

    def _add(self, line: LogLine) -> None:
        self.lines.append(line)
        if self._tell is not None:
            self._tell(line)

    def level(self, plugin: str) -> LogLevel:
        """The lowest level that is kept."""
        return self.lowest

    def last_lines(self, plugin: str) -> Sequence[str]:
        """What the plugin logged last."""
        return [line.text for line in self.lines if line.plugin == plugin and not line.by_host][-5:]

    def trace(self) -> Recorder | None:
        """Itself."""
        return self

    # --- host.vm.trace.TraceSink

    def begin(self, call: Call) -> None:
        """Keep it."""
        self.every_call.append(call)
        self.callbacks += call.is_callback and call.name not in _ALLOCATORS
        call.began = time.perf_counter_ns()

    def end(self, call: Call) -> None:
        """It is whole now."""
        call.ended = time.perf_counter_ns()
        if self._tell is not None:
            self._tell(call)


def without_allocations(calls: Iterable[Call]) -> Calls:
    """Calls but for those of the guest's allocator, which say nothing of a plugin."""
    return Calls(call for call in calls if call.name not in _ALLOCATORS)
