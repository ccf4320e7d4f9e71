"""What was fetched, kept on disk by its SHA-256: it is fetched once, and is there without a network.

Nothing read from here is trusted: it counts only with the digest that it is asked for by. Nothing that goes wrong here
stops a plugin: it is fetched instead.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from asgi_wasm.engines.cache import default_cache_dir, mark_used, new_file
from asgi_wasm.engines.file_lock import file_lock
from asgi_wasm.logs import get_logger

logger = get_logger("asgi_wasm.fetching")

_FOLDER = "fetched"


class FetchCache:
    """A folder with a file for each digest."""

    def __init__(self, directory: Path | None = None) -> None:
        """``directory`` is the setting ``cache_dir``; the files are in a folder of it."""
        self._configured = directory
        self._told = False
        # The files that were asked for here and are there.
        self.in_use: set[Path] = set()

    def get(self, digest: str, limit: int) -> bytes | None:
        """The content with this SHA-256, in hexadecimal, of at most ``limit`` bytes; None where there is none."""
        directory = self.directory()
        if directory is None:
            return None
        path = directory / digest
        try:
            # Not blocking: whoever may write here might have put a pipe.
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
            with open(handle, "rb") as file:
                content = file.read(limit + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._tell("%s cannot be read, so it is fetched again: %s", path, error)
            return None
        if len(content) <= limit and sha256(content).hexdigest() == digest:
            self.in_use.add(path)
            mark_used(path)
            return content
        self._tell("%s is damaged, so it is fetched again", path)
        return None

    def put(self, digest: str, content: bytes) -> None:
        """Keep it, in one step: others see all of it or nothing."""
        directory = self.directory()
        if directory is None:
            return
        try:
            _make(directory)
            with new_file(directory, content) as temporary:
                os.replace(temporary, directory / digest)
            self.in_use.add(directory / digest)
        except OSError as error:
            self._tell("what is fetched cannot be kept in %s, so each start fetches it: %s", directory, error)

    @contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        """Of several workers that start together one fetches, and the others wait, at most ``timeout`` seconds."""
        directory = self.directory()
        if directory is None:
            yield
            return
        with contextlib.suppress(OSError):
            _make(directory)
        with file_lock(directory / f"{sha256(name.encode()).hexdigest()}.lock", timeout):
            yield

    def directory(self) -> Path | None:
        """Where the files are, or would be; None for a user without a home."""
        try:
            return (default_cache_dir() if self._configured is None else self._configured) / _FOLDER
        except RuntimeError as error:
            self._tell("what is fetched is not kept (set cache_dir to a directory): %s", error)
            return None

    def _tell(self, message: str, *arguments: object) -> None:
        if not self._told:
            self._told = True
            logger.warning(message, *arguments)


def _make(directory: Path) -> None:
    """As readable as the folder that it is in: an image may be built by one user and run by another."""
    cache_dir = directory.parent
    cache_dir.parent.mkdir(parents=True, exist_ok=True)
    cache_dir.mkdir(mode=0o700, exist_ok=True)
    directory.mkdir(mode=0o700 | (cache_dir.stat().st_mode & 0o055), exist_ok=True)
