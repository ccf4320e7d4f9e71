"""Notices that this process is one of several workers of one server.

No server tells its workers how many they are, and they start them in different ways. So workers meet by locks on
bytes of one file of this user: its offset is made from what only workers of one server have in common. The kernel
drops the locks of a process that dies, and the file stays empty.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows has no such locks: nothing is noticed there.
    fcntl = None  # type: ignore[assignment]


class Siblings:
    """This process's place among the workers of its server: those with its parent, folder and command line."""

    def __init__(self) -> None:
        self._file: int | None = None

    def is_second(self) -> bool:
        """Whether exactly one worker was there before: so among any number of workers, one hears True.

        A second middleware of the same process is no other worker. Asked again, it is False.
        """
        if fcntl is None or self._file is not None:
            return False
        try:
            self._file = os.open(_path(), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        place = _place()
        return not _take(self._file, place) and _take(self._file, place + 1)

    def leave(self) -> None:
        """Give the place up. Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def _path() -> Path:
    return Path(tempfile.gettempdir()) / f"asgi-wasm-{os.getuid()}.lock"


def _place() -> int:
    shared = f"{os.getppid()}\0{os.getcwd()}\0{sys.argv}".encode("utf-8", "surrogateescape")
    # Even, since the odd byte after it is the second worker's; and within the range of a signed file offset.
    return int.from_bytes(blake2b(shared, digest_size=7).digest(), "big") * 2


def _take(file: int, place: int) -> bool:
    with suppress(OSError):
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        return True
    return False
