"""A lock between processes that is freed by its owner's death, and is not waited for without end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nobody waits there
    fcntl = None  # type: ignore[assignment]

# Seconds between two tries. A waiting `flock` cannot be told to stop waiting.
_POLL_SECONDS = 0.05


@contextmanager
def file_lock(path: Path, timeout: float) -> Iterator[bool]:
    """Hold the lock at ``path``, waiting at most ``timeout`` seconds; gives whether it is held.

    Without it one goes on too, so it must only save work. Its file is removed by whoever held it.
    """
    handle = _open(path)
    held = handle is not None and _acquire(handle, timeout)
    try:
        yield held
    finally:
        if handle is not None:
            if held:
                # Before it is freed: who opened it meanwhile and gets it next finds the work done.
                _remove(path)
                # A child that was forked meanwhile has it open, too: closing alone would not free it.
                fcntl.flock(handle, fcntl.LOCK_UN)
            os.close(handle)


def _open(path: Path) -> int | None:
    if fcntl is None:
        return None
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None


def _acquire(handle: int, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        except OSError:  # a file system without locks
            return False
        else:
            return True


def _remove(path: Path) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
