"""``asgi-wasm cache``: what is kept on this machine, and how to have less of it.

A start takes what it needs again, so nothing is lost but time. A server that runs keeps what it has mapped.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asgi_wasm import settings
from asgi_wasm.cli import console
from asgi_wasm.engines.cache import default_cache_dir
from asgi_wasm.errors import SettingsError
from asgi_wasm.fetching.cache import FetchCache

_DAY = 86_400.0
_HEX = "[0-9a-f]{64}"
# What asgi-wasm writes, with the locks beside it and what a killed process left half written; anything else stays.
_COMPILED = re.compile(rf"\w+-{_HEX}\.({_HEX}|lock)|\.new-\w+")
_FETCHED = re.compile(rf"{_HEX}(\.lock)?|\.new-\w+")


@dataclass(frozen=True)
class Kept:
    """A file of the cache; ``used`` is when it was written or used last, in seconds since the epoch."""

    kind: str
    path: Path
    size: int
    used: float


def show_cache(path: Path | None, *, prune: int | None, clear: bool, as_json: bool) -> int:
    """Print what there is, and what was removed: all, or what was not used for so many days. Raises `SettingsError`."""
    if clear and prune is not None:
        raise SettingsError("--clear and --prune exclude each other")
    if prune is not None and prune < 0:
        raise SettingsError(f"--prune {prune}: write a number of days")
    configured = settings.load(path).cache_dir
    try:
        directory = configured if configured is not None else default_cache_dir()
    except RuntimeError as error:
        raise SettingsError(f"there is no cache (set cache_dir to a directory): {error}") from None
    oldest = time.time() - _DAY * prune if prune is not None else 0.0
    gone = [file for file in _files(directory) if (clear or file.used < oldest) and _removed(file)]
    _tell(directory, [*_files(directory)], gone if clear or prune is not None else None, as_json)
    return 0


def _files(directory: Path) -> Iterator[Kept]:
    """Raises `SettingsError`."""
    fetched = FetchCache(directory).directory()
    for kind, folder, pattern in (("compiled", directory, _COMPILED), ("fetched", fetched, _FETCHED)):
        try:
            for path in sorted(folder.iterdir()) if folder is not None and folder.is_dir() else ():
                if pattern.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                    status = path.stat()
                    yield Kept(kind, path, status.st_size, max(status.st_mtime, status.st_atime))
        except FileNotFoundError:
            # Somebody else removes, too.
            continue
        except OSError as error:
            raise SettingsError(f"{folder} cannot be read: {error.strerror or error}") from None


def _removed(file: Kept) -> bool:
    try:
        file.path.unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"{file.path} cannot be removed: {error.strerror or error}") from None
    return True


def _tell(directory: Path, kept: list[Kept], gone: list[Kept] | None, as_json: bool) -> None:
    kinds = {kind: _sum([file for file in kept if file.kind == kind]) for kind in ("compiled", "fetched")}
    removed = None if gone is None else _sum(gone)
    if as_json:
        console.json_out({"directory": str(directory), **kinds, "removed": removed})
        return
    rows = [("folder", str(directory)), *((kind, _shown(sums)) for kind, sums in kinds.items())]
    console.fields([*rows, ("removed", "" if removed is None else _shown(removed))])


def _sum(files: list[Kept]) -> dict[str, int]:
    # Locks have no bytes, and are nothing to a person.
    sizes = [file.size for file in files if file.path.suffix != ".lock"]
    return {"files": len(sizes), "bytes": sum(sizes)}


def _shown(sums: dict[str, int]) -> str:
    count = sums["files"]
    return f"{count} file{'s' * (count != 1)}, {sums['bytes'] / 1e6:.1f} MB"
