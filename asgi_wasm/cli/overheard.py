"""What the host says while a command runs, beside what it says of single plugins."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from asgi_wasm.logs import get_logger


class _Listener(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        if not hasattr(record, "plugin"):
            self._lines.append(record.getMessage())


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Warnings and errors of the host that are about no plugin, as they come."""
    lines: list[str] = []
    logger, listener = get_logger("asgi_wasm"), _Listener(lines)
    logger.addHandler(listener)
    try:
        yield lines
    finally:
        logger.removeHandler(listener)
