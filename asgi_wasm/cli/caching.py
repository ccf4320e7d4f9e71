"""``asgi-wasm cache``: what is kept on this machine, and how to have less of it.

A start takes what it needs again, so nothing is lost but time. A server that runs keeps what it has mapped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from asgi_wasm import settings
from asgi_wasm.cli import console
from asgi_wasm.engines.cache import default_cache_dir
from asgi_wasm.errors import SettingsError
from asgi_wasm.fetching.kept import Kept, kept_in

_DAY = 86_400.0


def show_cache(path: Path | None, *, prune: int | None, clear: bool, as_json: bool) -> int:
    """Print what there is, and what was removed: all, or what was not used for so many days. Raises `SettingsError`."""
    if clear and prune is not None:
        raise SettingsError("--clear and --prune exclude each other")
    if prune is not None and prune < 0:
        raise SettingsError(f"--prune {prune}: write a number of days")
    spec = settings.load(path)
    try:
        directory = spec.cache_dir if spec.cache_dir is not None else default_cache_dir()
    except RuntimeError as error:
        raise SettingsError(f"there is no cache (set cache_dir to a directory): {error}") from None
    oldest = time.time() - _DAY * prune if prune is not None else 0.0
    gone = [file for file in _files(directory) if (clear or file.used < oldest) and _removed(file)]
    _tell(directory, spec.cache_limit, [*_files(directory)], gone if clear or prune is not None else None, as_json)
    return 0


def _files(directory: Path) -> Iterator[Kept]:
    """What the cache keeps. Raises `SettingsError`."""
    try:
        yield from kept_in(directory)
    except OSError as error:
        raise SettingsError(f"{error.filename or directory} cannot be read: {error.strerror or error}") from None


def _removed(file: Kept) -> bool:
    try:
        file.path.unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"{file.path} cannot be removed: {error.strerror or error}") from None
    return True


def _tell(directory: Path, limit: int, kept: list[Kept], gone: list[Kept] | None, as_json: bool) -> None:
    kinds = {kind: _sum([file for file in kept if file.kind == kind]) for kind in ("compiled", "fetched")}
    removed = None if gone is None else _sum(gone)
    if as_json:
        console.json_out({"directory": str(directory), "limit": limit, **kinds, "removed": removed})
        return
    rows = [("folder", str(directory)), *((kind, _shown(sums)) for kind, sums in kinds.items())]
    bound = f"{limit / 1e6:.1f} MB (cache_limit)" if limit else "none (cache_limit: 0)"
    console.fields([*rows, ("limit", bound), ("removed", "" if removed is None else _shown(removed))])


def _sum(files: list[Kept]) -> dict[str, int]:
    sizes = [file.size for file in files if not file.is_lock]
    return {"files": len(sizes), "bytes": sum(sizes)}


def _shown(sums: dict[str, int]) -> str:
    count = sums["files"]
    return f"{count} file{'s' * (count != 1)}, {sums['bytes'] / 1e6:.1f} MB"
