"""What builds a plugin for ``asgi-wasm run``: at first, and whenever a source has changed."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

from asgi_wasm.cli import console
from asgi_wasm.errors import SettingsError

# What `asgi-wasm new` makes: who watches while writing a plugin wants it built.
USUAL = "./build"
WAITS = "waits for the next change of a source"
# What a build or a test run writes: a change there is no change of a source.
_BUILT = frozenset({"target", "node_modules", "build", "dist", "__pycache__"})


def is_usual_there() -> bool:
    """Whether this folder has a program of the usual name."""
    path = Path(USUAL)
    return path.is_file() and os.access(path, os.X_OK)


def program(command: str) -> list[str]:
    """What is to be run, and its arguments. Raises `SettingsError`."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SettingsError(f"--build {command!r} cannot be read: {error}") from None
    if not words or shutil.which(words[0]) is None:
        raise SettingsError(f"--build {command!r}: there is no such program")
    return words


async def build_first(words: Sequence[str]) -> None:
    """Build, and return once that has worked: with a change of the sources, maybe.

    What an earlier build has left is of other sources, for all that is known.
    """
    console.line(shlex.join(words), "bold")
    if await _told(words, WAITS):
        return
    async with aclosing(_on_change(words, lambda: WAITS)) as builds:
        async for is_built in builds:
            if is_built:
                return


@asynccontextmanager
async def building(words: Sequence[str], if_not: Callable[[], str]) -> AsyncIterator[None]:
    """Build anew whenever a source changes, for as long as it lasts; ``if_not`` says what is if that fails."""

    async def run() -> None:
        async with aclosing(_on_change(words, if_not)) as builds:
            async for _ in builds:
                pass

    task = asyncio.ensure_future(run()) if words else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def is_source(path: Path) -> bool:
    """Not what a build writes, also for a moment: Go's makes ``plugin.wasm-go-tmp-umask``, and would build for ever.

    Nor what is hidden, which editors, pytest and git write, nor an editor's copy of what was.
    """
    parts = path.relative_to(Path.cwd()).parts
    is_hidden = any(part.startswith(".") for part in parts) or path.name.endswith("~")
    # A file ``build`` is what builds.
    folders = parts if path.is_dir() else parts[:-1]
    return ".wasm" not in path.name and not is_hidden and _BUILT.isdisjoint(folders)


async def _on_change(words: Sequence[str], if_not: Callable[[], str]) -> AsyncGenerator[bool, None]:
    """Builds with each change of a source; whether that has worked."""
    from watchfiles import awatch

    async for changes in awatch(Path.cwd(), watch_filter=lambda _, path: is_source(Path(path))):
        changed = sorted({Path(path).name for _, path in changes})
        console.line(f"{', '.join(changed)} changed: {shlex.join(words)}", "bold")
        yield await _told(words, if_not())


async def _told(words: Sequence[str], if_not: str) -> bool:
    problem = await _build(words)
    console.line(f"{shlex.join(words)} {problem}: {if_not}" if problem else "built", "red" if problem else "green")
    return not problem


async def _build(words: Sequence[str]) -> str:
    """What went wrong, if anything."""
    try:
        process = await asyncio.create_subprocess_exec(*words)
    except OSError as error:
        return f"cannot be run ({error.strerror or error})"
    status = await process.wait()
    return f"failed with exit status {status}" if status else ""
