"""Plugins' words and the host's, through the standard library's logging."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from functools import cache, partial

from asgi_wasm.errors import shorten
from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.ports import NO_ORIGIN, LogOrigin
from asgi_wasm.host.vm.trace import TextTrace, TraceSink
from asgi_wasm.logs import Seldom, escape, get_logger

# The standard library has no TRACE; 5 is what other libraries use.
_TRACE = 5
_LEVELS = {
    LogLevel.TRACE: _TRACE,
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARN: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
    LogLevel.CRITICAL: logging.CRITICAL,
}
# What an error that a plugin did not start shows of its last words.
_LAST_LINES = 5
_LAST_LINE_CHARACTERS = 1024


@cache
def _level_of(effective: int) -> LogLevel:
    """The lowest that a logger of this level keeps: asked for each line."""
    return next((level for level, number in _LEVELS.items() if number >= effective), LogLevel.CRITICAL)


class StandardLog:
    """`host.ports.Log`: logger ``asgi_wasm.plugin.NAME`` for a plugin's words, ``asgi_wasm.host`` for the host's.

    Records say where they are from (`logging`'s ``extra``): ``plugin``, ``vm_id``, ``context_id`` and ``request_id``;
    those of the host's words only ``plugin`` where the rest is not known.

    ``asgi_wasm.trace`` has the call log. It is on when that logger keeps level 5: DEBUG for everything does not flood.
    """

    def __init__(self) -> None:
        self._loggers: dict[str, logging.Logger] = {}
        self._last: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_LAST_LINES))
        self._host = get_logger("asgi_wasm.host")
        self._seldom = Seldom()

    def plugin(self, plugin: str, level: LogLevel, message: bytes, origin: LogOrigin = NO_ORIGIN) -> None:
        """One line of a plugin's own words."""
        logger = self._logger(plugin)
        number = _LEVELS[level]
        if logger.isEnabledFor(number):
            text = escape(message)
            self._last[plugin].append(text[:_LAST_LINE_CHARACTERS])
            logger.log(number, "%s", text, extra=_extra(plugin, origin))

    def host(self, plugin: str, level: LogLevel, message: str, origin: LogOrigin = NO_ORIGIN) -> None:
        """One line of the host about a plugin, or without one about a request.

        What is no news but a warning or worse is kept from coming with each request (`Seldom`).
        """
        text = shorten(f"plugin {plugin!r}: {message}" if plugin else message)
        shown = text if level < LogLevel.WARN else self._seldom.passes(text)
        if shown is not None:
            known: Mapping[str, str | int] = {"plugin": plugin} if origin is NO_ORIGIN else _extra(plugin, origin)
            self._host.log(_LEVELS[level], "%s", shown, extra=known if plugin else None)

    def level(self, plugin: str) -> LogLevel:
        """The lowest ABI level that the plugin's logger keeps."""
        return _level_of(self._logger(plugin).getEffectiveLevel())

    def last_lines(self, plugin: str) -> Sequence[str]:
        """What the plugin logged last."""
        return tuple(self._last[plugin])

    def trace(self) -> TraceSink | None:
        """Where the call log goes, or None when nobody wants it."""
        logger = get_logger("asgi_wasm.trace")
        return TextTrace(partial(logger.log, _TRACE, "%s")) if logger.isEnabledFor(_TRACE) else None

    def _logger(self, plugin: str) -> logging.Logger:
        logger = self._loggers.get(plugin)
        if logger is None:
            logger = self._loggers[plugin] = get_logger(f"asgi_wasm.plugin.{plugin}")
        return logger


def _extra(plugin: str, origin: LogOrigin) -> Mapping[str, str | int]:
    # A client gives the id: it stays on its line, whatever formats it.
    request_id = escape(origin.request_id)[:_LAST_LINE_CHARACTERS]
    return {"plugin": plugin, "vm_id": origin.vm_id, "context_id": origin.context_id, "request_id": request_id}
