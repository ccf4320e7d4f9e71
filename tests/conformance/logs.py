"""Log files that grow while they are read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LogLine:
    """What a plugin logged: the names before its words, its level and its words."""

    names: tuple[str, ...]
    level: str
    text: str


class Tail:
    """What plugins logged to a file. Reads only what was added since the last time; safe for threads."""

    def __init__(self, path: Path, parse: Callable[[str], LogLine | None]) -> None:
        self._path = path
        self._parse = parse
        self._at = 0
        self._rest = b""
        self._lines: list[LogLine] = []
        self._lock = threading.Lock()

    def lines(self) -> list[LogLine]:
        """All so far."""
        with self._lock:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
            self._at += len(data)
            *whole, self._rest = (self._rest + data).split(b"\n")
            found = (self._parse(line.decode("utf-8", "replace")) for line in whole)
            self._lines += [line for line in found if line is not None]
            return list(self._lines)
