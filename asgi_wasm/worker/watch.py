"""Notices that the settings' file or a plugin's file is another one than before (extra ``watch``)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path

from asgi_wasm.errors import MissingExtraError
from asgi_wasm.logs import get_logger

# What tells one state of a file from another; None where there is no file.
State = tuple[int, ...] | None
# Files, as they were when they were read or before.
Watched = Mapping[Path, State]

_DEBOUNCE_MILLISECONDS = 200
# A look without news, for file systems that tell of none, and for what changed before they were asked.
_LOOK_MILLISECONDS = 2000

logger = get_logger("asgi_wasm.host")


def require_watchfiles() -> None:
    """See that what watches files is installed. Raises `MissingExtraError`."""
    if find_spec("watchfiles") is None:
        raise MissingExtraError("the settings say 'watch': pip install 'asgi-wasm[watch]'")


def states(files: Iterable[Path]) -> Watched:
    """The files as they are now."""
    return {file.absolute(): _state(file) for file in files}


async def changes(watched: Watched) -> AsyncGenerator[None, None]:
    """Something is yielded whenever any of the files has become another one, or gone, or come. It does not end.

    Their folders are watched: editors and deployments put a new file in the old one's place, and a volume of
    Kubernetes moves a link beside it.
    """
    seen = watched

    def news(*_: object) -> bool:
        return states(watched) != seen

    async with aclosing(_looks(watched, news)) as looks:
        async for _ in looks:
            now = states(watched)
            if now != seen:
                seen = now
                yield


async def _looks(watched: Watched, news: Callable[..., bool]) -> AsyncGenerator[None, None]:
    """Something is yielded whenever it is time to look at the files."""
    from watchfiles import awatch

    try:
        folders = {next(folder for folder in file.parents if folder.is_dir()) for file in watched}
        async for _ in awatch(
            *folders,
            recursive=False,
            # watchfiles logs what it yields: a log in a folder that is watched would grow by that for ever.
            watch_filter=news,
            debounce=_DEBOUNCE_MILLISECONDS,
            rust_timeout=_LOOK_MILLISECONDS,
            yield_on_timeout=True,
        ):
            yield
    except (OSError, RuntimeError) as error:
        # All places of inotify may be taken, say.
        seconds = _LOOK_MILLISECONDS // 1000
        logger.warning("files are looked at every %d s, since the system cannot tell of changes (%s)", seconds, error)
    while True:
        yield
        await asyncio.sleep(_LOOK_MILLISECONDS / 1000)


def _state(file: Path) -> State:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
