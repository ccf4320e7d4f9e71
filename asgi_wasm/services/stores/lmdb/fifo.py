"""Wake-ups between processes of one machine: a named FIFO for each worker, read by its event loop.

A FIFO tells by itself whether its worker lives: without a reader, opening it for writing fails at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

_TOKEN = struct.Struct("<I")
# Linux's FIFOs hold 64 KiB, hence 16,384 tokens that nobody read yet.
_READ_BYTES = 65536
# What is no longer than PIPE_BUF, 512 bytes at least, is written whole or not at all.
_WRITE_TOKENS = 512 // _TOKEN.size


class WakeFifo:
    """The FIFO of one worker, in a folder that all of them know."""

    def __init__(self, folder: Path, worker: bytes, wake: Callable[[int], None], missed: Callable[[], None]) -> None:
        """``wake`` is called on the event loop, in no plugin's callback, with each token that arrives.

        ``missed`` is called when it was full, so that others may have had no room.
        """
        self._path = folder / worker.hex()
        self._wake = wake
        self._missed = missed
        self._file: int | None = None

    def open(self) -> None:
        """Begin to listen. Raises OSError."""
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        sweep(self._path.parent)
        # Made under another name, since `sweep` takes a FIFO that nobody reads yet for a dead worker's.
        hidden = self._path.with_name(f".{self._path.name}")
        os.mkfifo(hidden, 0o600)
        # Also for writing: otherwise it is at its end, and always ready, whenever no writer has it open.
        self._file = os.open(hidden, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        hidden.rename(self._path)
        asyncio.get_running_loop().add_reader(self._file, self._read, self._file)

    def _read(self, file: int) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(BlockingIOError):
            read = os.read(file, _READ_BYTES)
            for (token,) in _TOKEN.iter_unpack(read):
                loop.call_soon(self._wake, token)
            if len(read) == _READ_BYTES:
                self._missed()

    def close(self) -> None:
        """Stop listening. Idempotent."""
        if self._file is not None:
            asyncio.get_running_loop().remove_reader(self._file)
        self.abandon()

    def abandon(self) -> None:
        """`close` when the event loop, which listened, is closed."""
        file, self._file = self._file, None
        if file is not None:
            self._path.unlink(missing_ok=True)
            os.close(file)


def ring(folder: Path, worker: bytes, token: int, times: int = 1) -> bool:
    """Wake a worker, so many times. False when it is gone. One that is too busy to take more tokens is not told."""
    path = folder / worker.hex()
    try:
        file = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        for start in range(0, times, _WRITE_TOKENS):
            os.write(file, _TOKEN.pack(token) * min(_WRITE_TOKENS, times - start))
    except BlockingIOError:
        pass
    finally:
        os.close(file)
    return True


def lives(folder: Path, worker: bytes) -> bool:
    """Whether the worker listens: it is neither stopped nor killed."""
    return _has_reader(folder / worker.hex())


def _has_reader(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def sweep(folder: Path) -> None:
    """Remove the FIFOs of workers that were killed."""
    for path in folder.glob("[!.]*"):
        if not _has_reader(path):
            path.unlink(missing_ok=True)
