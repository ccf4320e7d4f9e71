"""What both caches keep on this machine, compiled code and fetched files, and how much of it there may be.

Whoever starts plugins removes what was used longest ago, without a lock: what is gone is compiled or fetched again, a
server that runs keeps what it has mapped, and of two that remove at once each would remove the same.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from asgi_wasm.fetching.cache import FetchCache
from asgi_wasm.logs import get_logger

logger = get_logger("asgi_wasm.fetching")

_HEX = "[0-9a-f]{64}"
# What asgi-wasm writes, with the locks beside it and what a killed process left half written; anything else stays.
_COMPILED = re.compile(rf"\w+-{_HEX}\.({_HEX}|lock)|\.new-\w+")
_FETCHED = re.compile(rf"{_HEX}(\.lock)?|\.new-\w+")

# Seconds. What was used since then may be about to be read by another process that starts, or half written by it.
GRACE = 3600.0


@dataclass(frozen=True)
class Kept:
    """A file of the cache; ``used`` is when it was written or used last, in seconds since the epoch."""

    kind: str
    path: Path
    size: int
    used: float

    @property
    def is_lock(self) -> bool:
        """Locks have no bytes, and are nothing to a person."""
        return self.path.suffix == ".lock"


def kept_in(directory: Path) -> Iterator[Kept]:
    """Every file of a cache, which need not exist. Raises OSError for a folder that cannot be read."""
    for kind, folder, pattern in (
        ("compiled", directory, _COMPILED),
        ("fetched", FetchCache(directory).directory(), _FETCHED),
    ):
        try:
            for path in sorted(folder.iterdir()) if folder is not None and folder.is_dir() else ():
                if pattern.fullmatch(path.name):
                    yield from _file(kind, path)
        except FileNotFoundError:
            # Somebody else removes, too.
            continue


def _file(kind: str, path: Path) -> Iterator[Kept]:
    try:
        if path.is_file() and not path.is_symlink():
            status = path.stat()
            yield Kept(kind, path, status.st_size, max(status.st_mtime, status.st_atime))
    except FileNotFoundError:
        return


def keep_within(directory: Path, limit: int, in_use: Collection[Path]) -> list[Kept]:
    """Remove what was used longest ago until the rest has at most ``limit`` bytes (0: any); what was removed.

    Never one of the files ``in_use``, nor what anybody used within `GRACE` seconds: these may be more than the limit.
    It blocks, and raises nothing: a cache that is too large does no harm.
    """
    try:
        files = [file for file in kept_in(directory) if not file.is_lock] if limit else []
    except OSError as error:
        logger.debug("the cache %s cannot be looked through: %s", directory, error)
        return []
    excess = sum(file.size for file in files) - limit
    newest = time.time() - GRACE
    removed: list[Kept] = []
    for file in sorted(files, key=lambda file: file.used):
        if excess <= 0 or file.used > newest:
            break
        if file.path not in in_use and _removed(file):
            removed.append(file)
            excess -= file.size
    if removed:
        megabytes = sum(file.size for file in removed) / 1e6
        text = "removed the %d files of the cache %s that were used longest ago, %.1f MB: it had more than cache_limit"
        logger.info(text, len(removed), directory, megabytes)
    return removed


def _removed(file: Kept) -> bool:
    """Unless somebody used it meanwhile, or it cannot be removed."""
    try:
        if file.path.stat().st_mtime <= file.used:
            file.path.unlink()
            return True
    except FileNotFoundError:
        return True
    except OSError as error:
        logger.debug("%s cannot be removed: %s", file.path, error)
    return False
