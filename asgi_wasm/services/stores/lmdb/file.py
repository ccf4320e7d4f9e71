"""What LMDB takes for granted of its two files, and dies of by a signal where it is not so.

It maps them into memory: an access beyond the end of a file, or to a part for which the disk has no room, is SIGBUS.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import lmdb

# LMDB's table of readers: a head, then 64 bytes for each.
_LOCK_HEAD = 4096
_LOCK_BYTES_PER_READER = 64


class CutError(Exception):
    """Raised when a file is shorter than it was, or must be."""


def reserve_lock(folder: Path, readers: int) -> None:
    """Have room for the table of readers before it is mapped. Raises OSError."""
    size = _LOCK_HEAD + readers * _LOCK_BYTES_PER_READER
    file = os.open(folder / "lock.mdb", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.fstat(file).st_size < size:
            # Not on macOS.
            reserve = getattr(os, "posix_fallocate", None)
            if reserve is None:
                os.ftruncate(file, size)
            else:
                reserve(file, 0, size)
    finally:
        os.close(file)


def check_length(environment: lmdb.Environment, folder: Path) -> None:
    """Raises `CutError` when the pages that the database says to have are not all there."""
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = (folder / "data.mdb").stat().st_size
    if size < needed:
        raise CutError(f"data.mdb has {size} bytes of {needed}: it was cut, as by a broken copy or a full disk")


def never_close(environment: lmdb.Environment) -> None:
    """Leave it open until the process ends: closing it writes into the table of readers, which was cut off."""
    if sys.implementation.name == "cpython":
        # Not kept in a list, which would be freed, and it with it, as the interpreter ends.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(environment))


class Lengths:
    """Notices that a file was cut while it is mapped: LMDB itself never makes one shorter."""

    def __init__(self, folder: Path) -> None:
        """Open both files, and see how long they are. Raises OSError."""
        self._files: list[int] = []
        try:
            for name in ("data.mdb", "lock.mdb"):
                self._files.append(os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC))
            self._data, self._lock = self._files
            self._data_size, self._lock_size = (os.fstat(file).st_size for file in self._files)
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """To be called before each transaction. Raises `CutError`.

        A busy worker reads again within microseconds of whatever happens: what was seen a moment ago does not count.
        """
        # A third of `fstat`'s time.
        data, lock = os.lseek(self._data, 0, os.SEEK_END), os.lseek(self._lock, 0, os.SEEK_END)
        if data < self._data_size or lock < self._lock_size:
            raise CutError("its files were cut while they were in use")
        self._data_size = data

    def close(self) -> None:
        """Idempotent."""
        while self._files:
            os.close(self._files.pop())

    def __del__(self) -> None:
        self.close()
