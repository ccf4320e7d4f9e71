"""The host's loggers: whatever a log line quotes stays on that line.

Names, statuses and reasons come from plugins, clients, upstreams and settings. The one way to a logger of ours is
`get_logger`, so that no call can forget to escape them.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Mapping


def _escaped(code: int) -> str:
    char = chr(code)
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


class _Escapes(dict[int, str]):
    """For `str.translate`: a body that a plugin logs is to hold the event loop for as short as can be."""

    def __missing__(self, code: int) -> str:
        return _escaped(code)


_ESCAPES = _Escapes({code: _escaped(code) for code in range(0x100)})


def escape(message: bytes | str) -> str:
    """Text that stays on one line: anything that is not printable is written as an escape.

    So no plugin, and no client whose bytes a plugin logs, can forge a line or drive a terminal.
    """
    text = message if isinstance(message, str) else message.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return text.translate(_ESCAPES)


# Seconds between two equal lines, and of how many different ones is known when each was written.
QUIET_SECONDS = 60.0
MOST_KNOWN = 256


class Seldom:
    """Keeps a line that each request may cause from filling a disk: it is written at once, and again when a minute is
    over at the earliest. Lines beyond `MOST_KNOWN` different ones in a minute count as one.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        # When each was written last, and how often it was left out since.
        self._written: dict[str, tuple[float, int]] = {}

    def passes(self, line: str) -> str | None:
        """What to write now: the line, with how many like it were left out. None to leave it out."""
        now = self._now()
        key = line if line in self._written or self._has_room(now) else ""
        at, left_out = self._written.get(key, (float("-inf"), 0))
        if now - at < QUIET_SECONDS:
            self._written[key] = at, left_out + 1
            return None
        self._written[key] = now, 0
        return f"{line} ({left_out} more like it since the last)" if left_out else line

    def _has_room(self, now: float) -> bool:
        if len(self._written) >= MOST_KNOWN:
            self._written = {line: told for line, told in self._written.items() if now - told[0] < QUIET_SECONDS}
        return len(self._written) < MOST_KNOWN


def get_logger(name: str) -> logging.Logger:
    """The standard library's logger of this name, which escapes what it is given to quote."""
    logger = logging.getLogger(escape(name))
    # It is the same function each time, so it is there once.
    logger.addFilter(_escape_record)
    return logger


def _escape_record(record: logging.LogRecord) -> bool:
    """A `logging.Filter`: the only hook that every record passes before any handler, whatever the handlers do."""
    record.msg = escape(str(record.msg))
    if isinstance(record.args, Mapping):
        record.args = {name: _shown(value) for name, value in record.args.items()}
    elif record.args:
        record.args = tuple(_shown(value) for value in record.args)
    if record.exc_info and record.exc_info[0] is not None:
        record.exc_text = _indented("".join(traceback.format_exception(*record.exc_info)))
    return True


def _shown(value: object) -> object:
    """Numbers stay numbers, for ``%d``, and what is printable stays itself; the rest is escaped when it is shown."""
    if value is None or isinstance(value, (int, float)) or (isinstance(value, str) and value.isprintable()):
        return value
    if isinstance(value, BaseException):
        # Records are kept by some (Sentry, tests), and an exception keeps its frames, with all that they have.
        return _Told(value)
    return _Shown(value)


class _Shown:
    """A value in a record: `str` and `repr` of it are on one line; ``%r`` of text needs no more than its own repr."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return escape(self._value if isinstance(self._value, str | bytes) else str(self._value))

    def __repr__(self) -> str:
        return escape(repr(self._value))


class _Told:
    """What an exception said, for ``%s``, and what it is, for ``%r``."""

    __slots__ = ("_repr", "_text")

    def __init__(self, error: BaseException) -> None:
        self._text, self._repr = escape(str(error)), escape(repr(error))

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return self._repr


def _indented(text: str) -> str:
    """A traceback has lines, and its last may quote anybody: none of them begins as a log line does."""
    return "\n".join("  " + escape(line) for line in text.rstrip("\n").split("\n"))
