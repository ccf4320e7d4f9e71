"""Compiled code kept on disk: a large plugin takes seconds to compile and milliseconds to load.

Whoever can write to the cache can run code in this process, so only a directory that nobody else can write to is used.
Nothing that goes wrong here stops a plugin: it is compiled instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asgi_wasm.engines.base import Engine, Module
from asgi_wasm.engines.file_lock import file_lock
from asgi_wasm.errors import InvalidModuleError
from asgi_wasm.logs import get_logger

__all__ = ["ModuleCache", "default_cache_dir", "mark_used", "new_file"]

logger = get_logger("asgi_wasm.engines")

# An entry is what the engine serialized, and nothing else, so that it can be mapped into memory: of that only what is
# used is read, and all workers share it. Its name ends in a dot and the SHA-256 of its content.
_DIGEST_LENGTH = 2 * hashlib.sha256().digest_size
_PIECE = 1 << 20

# Seconds. The largest plugins known take half a minute; who holds the lock for longer is stopped, not at work.
LOCK_TIMEOUT = 120.0


class ModuleCache:
    """The cache of one worker. What is wrong with its directory is said once."""

    def __init__(self, directory: Path | None = None) -> None:
        """``directory`` is `default_cache_dir` when None."""
        self._configured = directory
        self._told = False
        # The files that were loaded or stored here.
        self.in_use: set[Path] = set()

    def load(self, engine: Engine, code: bytes, digest: str | None = None) -> tuple[Module, bool]:
        """The module of ``code``, and whether it came from the cache.

        Of several workers that start together one compiles, and the others wait for what it stores. To be called on a
        thread of its own. ``digest`` is the SHA-256 of ``code`` in hexadecimal, where it is known. Raises
        `InvalidModuleError` like `Engine.compile`.
        """
        directory = self.directory()
        if directory is None:
            return engine.compile(code), False
        path = directory / _entry_name(engine, digest or hashlib.sha256(code).hexdigest())
        module = self._load(engine, path)
        if module is not None:
            return module, True
        with file_lock(Path(f"{path}.lock"), LOCK_TIMEOUT):
            module = self._load(engine, path, tell=True)
            if module is not None:
                return module, True
            module = engine.compile(code)
            self._store(path, module)
        return module, False

    def directory(self) -> Path | None:
        """The directory, made if need be; None where there is none that may be used."""
        try:
            directory = default_cache_dir() if self._configured is None else self._configured
            directory.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                directory.mkdir(mode=0o700)
            # lstat: a symbolic link may have been put there by anyone who may write to its parent.
            status = directory.lstat()
        except (OSError, RuntimeError) as error:
            self._tell("compiled code is not kept, so each start compiles (set cache_dir to a directory): %s", error)
            return None
        problem = _problem(status)
        if problem:
            self._tell("the cache directory %s is not used: %s", directory, problem)
            return None
        return directory

    def _load(self, engine: Engine, path: Path, *, tell: bool = False) -> Module | None:
        """The entry's module, if it is there and good; ``tell`` the log when it is not good."""
        try:
            for entry in _entries(path):
                problem = "it is damaged"
                if _digest(entry) == entry.suffix[1:]:
                    try:
                        module = engine.deserialize_file(entry)
                    except InvalidModuleError as error:
                        problem = str(error)
                    else:
                        self.in_use.add(entry)
                        mark_used(entry)
                        return module
                if tell:
                    text = "compiled code in %s cannot be used, so the plugin is compiled again: %s"
                    logger.warning(text, entry, problem)
        except OSError:  # it was removed meanwhile, or cannot be read
            return None
        return None

    def _store(self, path: Path, module: Module) -> None:
        payload = module.serialize()
        try:
            with new_file(path.parent, payload) as temporary:
                for old in _entries(path):
                    old.unlink()
                entry = Path(f"{path}.{hashlib.sha256(payload).hexdigest()}")
                os.replace(temporary, entry)
            self.in_use.add(entry)
        except OSError as error:
            self._tell("compiled code cannot be kept in %s, so each start compiles: %s", path.parent, error)

    def _tell(self, message: str, *arguments: object) -> None:
        if not self._told:
            self._told = True
            logger.warning(message, *arguments)


def default_cache_dir() -> Path:
    """``asgi-wasm`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. Raises RuntimeError where there is no home."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    parent = Path(configured) if os.path.isabs(configured) else Path.home() / ".cache"
    return parent / "asgi-wasm"


@contextmanager
def new_file(directory: Path, content: bytes) -> Iterator[str]:
    """The path of a file that has this content, to be renamed: others see all of it or nothing.

    It is removed where it cannot be written or renamed. Raises OSError.
    """
    # Another process that stores the same has another temporary file.
    handle, temporary = tempfile.mkstemp(prefix=".new-", dir=directory)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # As readable as the directory: an image may be built by one user and run by another.
        os.chmod(temporary, 0o600 | (directory.stat().st_mode & 0o044))
        yield temporary
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def mark_used(path: Path) -> None:
    """So that `asgi-wasm cache --prune` knows that it is in use. In an image that may not be possible."""
    with contextlib.suppress(OSError):
        os.utime(path)


def _entry_name(engine: Engine, digest: str) -> str:
    key = hashlib.sha256(f"{engine.name}\0{engine.fingerprint}\0".encode())
    key.update(bytes.fromhex(digest))
    return f"{engine.name}-{key.hexdigest()}"


def _problem(status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return "it is a symbolic link"
    if not stat.S_ISDIR(status.st_mode):
        return "it is no directory"
    if not hasattr(os, "getuid"):  # Windows has other permissions, and a cache in the user's profile is private
        return ""
    if status.st_uid not in (0, os.getuid()):  # against root nothing helps, and it may have built the image
        return f"it belongs to user {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "others may write to it, run chmod go-w on it"
    return ""


def _entries(path: Path) -> list[Path]:
    """What is there under the name, of whatever content: one, or none."""
    return sorted(path.parent.glob(f"{path.name}.{'?' * _DIGEST_LENGTH}"))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
