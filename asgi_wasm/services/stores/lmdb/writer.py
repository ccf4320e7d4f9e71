"""Who may write to an LMDB database: a lock that is asked for with a time limit, outside of LMDB's own, which has none.

A worker that is stopped (SIGSTOP, a debugger, a frozen container) in the middle of a transaction would hold every other
worker's event loop for as long as it is stopped. The kernel drops the lock of a process that dies.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from threading import Lock

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows, on which this store does not run.
    fcntl = None  # type: ignore[assignment]

# A write takes some 15 microseconds; a busy machine may stop a writer for tens of milliseconds.
PATIENCE_SECONDS = 0.5
_QUICK_TRIES = 20
_LONGEST_SLEEP = 0.001


class WriterBusyError(Exception):
    """Raised when another worker holds the lock for too long."""


class WriterLock:
    """``with`` it, write. For threads of this process as well."""

    def __init__(self, folder: Path) -> None:
        """Open the file of the lock. Raises OSError."""
        self._file = os.open(folder / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._threads = Lock()
        # Found held for too long: until it is free, nobody waits again.
        self._is_stuck = False

    def __enter__(self) -> None:
        """Wait for the lock, but not for long. Raises `WriterBusyError`."""
        if not self._threads.acquire(timeout=PATIENCE_SECONDS):
            raise WriterBusyError("another thread is writing")
        try:
            self._acquire()
        except BaseException:
            self._threads.release()
            raise

    def _acquire(self) -> None:
        tries, pause = 0, 0.0
        end = time.monotonic() + (0.0 if self._is_stuck else PATIENCE_SECONDS)
        while not self._take():
            if time.monotonic() >= end:
                # Once more: perhaps it was this worker that was stopped meanwhile.
                if self._take():
                    break
                self._is_stuck = True
                raise WriterBusyError(f"another worker has held the writer's lock for {PATIENCE_SECONDS:g} s")
            tries += 1
            if tries > _QUICK_TRIES:
                pause = min(2 * pause or 0.00002, _LONGEST_SLEEP)
            time.sleep(pause)
        self._is_stuck = False

    def _take(self) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)
        self._threads.release()

    def __del__(self) -> None:
        # Whoever writes has it, so nobody does.
        file = getattr(self, "_file", None)
        if file is not None:
            os.close(file)
