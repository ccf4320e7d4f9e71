"""Compiled code kept on disk: a large plugin takes seconds to compile and milliseconds to load.

Whoever can write to the cache can run code in this process, so only a directory that nobody else can write to is used.
Nothing that goes wrong here stops a plugin: it is compiled instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import tempfile
from pathlib import Path

from asgi_wasm.engines.base import Engine, Module
from asgi_wasm.errors import InvalidModuleError

__all__ = ["default_cache_dir", "load_module"]

logger = logging.getLogger("asgi_wasm.engines")

# An entry is this line, the SHA-256 of the compiled code, the compiled code.
HEADER = b"asgi-wasm compiled code 1\n"
DIGEST_SIZE = hashlib.sha256().digest_size


def load_module(
    engine: Engine, code: bytes, cache_dir: Path | None = None, *, enabled: bool = True
) -> tuple[Module, bool]:
    """The module of ``code``, and whether it came from the cache.

    ``cache_dir`` is `default_cache_dir` when None; ``enabled=False`` compiles and touches no disk.
    Raises `InvalidModuleError` like `Engine.compile`.
    """
    directory = _private_directory(cache_dir) if enabled else None
    if directory is None:
        return engine.compile(code), False
    path = directory / _entry_name(engine, code)
    module = _load(engine, path)
    if module is not None:
        return module, True
    module = engine.compile(code)
    _store(path, module)
    return module, False


def default_cache_dir() -> Path:
    """``asgi-wasm`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. Raises RuntimeError where there is no home."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    parent = Path(configured) if os.path.isabs(configured) else Path.home() / ".cache"
    return parent / "asgi-wasm"


def _entry_name(engine: Engine, code: bytes) -> str:
    key = hashlib.sha256(f"{engine.name}\0{engine.fingerprint}\0".encode())
    key.update(hashlib.sha256(code).digest())
    return f"{engine.name}-{key.hexdigest()}"


def _private_directory(cache_dir: Path | None) -> Path | None:
    try:
        directory = default_cache_dir() if cache_dir is None else cache_dir
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        # lstat: a symbolic link may have been put there by anyone who may write to its parent.
        status = directory.lstat()
    except (OSError, RuntimeError) as error:
        logger.debug("compiled code is not cached: %s", error)
        return None
    problem = _problem(status)
    if problem:
        logger.warning("the cache directory %s is not used: %s", directory, problem)
        return None
    return directory


def _problem(status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return "it is a symbolic link"
    if not stat.S_ISDIR(status.st_mode):
        return "it is no directory"
    if not hasattr(os, "getuid"):  # Windows has other permissions, and a cache in the user's profile is private
        return ""
    if status.st_uid != os.getuid():
        return f"it belongs to user {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "others may write to it, run chmod go-w on it"
    return ""


def _load(engine: Engine, path: Path) -> Module | None:
    try:
        entry = path.read_bytes()
    except OSError:
        return None
    start = len(HEADER) + DIGEST_SIZE
    payload = entry[start:]
    if entry[:start] != HEADER + hashlib.sha256(payload).digest():
        logger.warning("compiled code in %s is damaged: compiling again", path)
        return None
    try:
        return engine.deserialize(payload)
    except InvalidModuleError as error:
        logger.warning("compiled code in %s cannot be used (%s): compiling again", path, error)
        return None


def _store(path: Path, module: Module) -> None:
    payload = module.serialize()
    temporary = ""
    try:
        # mkstemp makes the file 0600; another process that stores the same entry has another temporary file.
        handle, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(HEADER + hashlib.sha256(payload).digest())
            file.write(payload)
        os.replace(temporary, path)
    except OSError as error:
        logger.debug("compiled code is not cached: %s", error)
        with contextlib.suppress(OSError):
            os.unlink(temporary)
