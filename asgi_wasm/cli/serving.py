"""``asgi-wasm run``: plugins in front of an app, an HTTP server or an echo, on this machine, while they are written."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import uvicorn

from asgi_wasm.asgi.types import ASGIApp
from asgi_wasm.cli import console, given, progress
from asgi_wasm.cli.app_behind import app_behind
from asgi_wasm.cli.listening import bind_all
from asgi_wasm.cli.live import Announced, Printed, TracedLog
from asgi_wasm.cli.plugin_files import is_missing, told_as_typed
from asgi_wasm.errors import MissingExtraError, SettingsError
from asgi_wasm.logs import get_logger
from asgi_wasm.middleware import WasmMiddleware
from asgi_wasm.worker.services import Services

# What a build or a test run writes: a change there is no change of a source.
_BUILT = frozenset({"target", "node_modules", "build", "dist", "__pycache__"})


@dataclass(frozen=True)
class Run:
    """What the command line says."""

    files: Sequence[str]
    confs: Sequence[str] = ()
    root_ids: Sequence[str] = ()
    settings: Path | None = None
    app: str | None = None
    upstream: str | None = None
    callouts: Sequence[str] = ()
    trace: bool = False
    watch: bool = False
    build: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    engine: str = "auto"
    log_level: str = "info"


class _Traced(WasmMiddleware):
    """A `WasmMiddleware` whose calls are printed."""

    _services = Services(log=TracedLog)


def serve(run: Run) -> int:
    """Serve until a signal; 1 where it could not start. Raises `AsgiWasmError`."""
    if not run.files and run.settings is None:
        raise SettingsError("nothing to run: give a plugin's .wasm file, or --settings FILE")
    if run.app and run.upstream:
        raise SettingsError("--app and --upstream exclude each other: the plugins stand before one of them")
    if (run.watch or run.build) and run.settings is not None:
        raise SettingsError(
            "--watch and --build are for plugins that are given by file: with --settings say 'watch: true' there"
        )
    if (run.watch or run.build) and find_spec("watchfiles") is None:
        raise MissingExtraError("--watch and --build need a package more: pip install 'asgi-wasm[watch]'")
    if run.watch and not run.build and _is_program(Path("build")):
        # What `asgi-wasm new` makes: who watches while writing a plugin wants it built.
        run = replace(run, build="./build")
    program = _program(run.build) if run.build else []
    if program and any(is_missing(file) for file in run.files):
        _build_first(program)
    # At once, since the server would tell the same in many lines.
    app = app_behind(run.app, run.upstream)
    kind = _Traced if run.trace else WasmMiddleware
    options = _options(run)
    made: list[WasmMiddleware] = []

    def plugged(behind: ASGIApp) -> ASGIApp:
        made.append(kind(behind, **options))
        return made[0]

    logger = get_logger("asgi_wasm")
    printed = Printed()
    level = logger.level
    logger.setLevel(_level(run.log_level))
    logger.addHandler(printed)
    try:
        announced = Announced(plugged, app)
        return asyncio.run(_serve(run, announced, made[0], printed, program))
    finally:
        logger.removeHandler(printed)
        logger.setLevel(level)


def _build_first(program: Sequence[str]) -> None:
    """For a plugin that is not there yet. Raises `SettingsError`."""
    console.line(shlex.join(program), "bold")
    if problem := asyncio.run(_built(program)):
        raise SettingsError(f"--build: {shlex.join(program)} {problem}")


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _program(command: str) -> list[str]:
    """What is to be run, and its arguments. Raises `SettingsError`."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SettingsError(f"--build {command!r} cannot be read: {error}") from None
    if not words or shutil.which(words[0]) is None:
        raise SettingsError(f"--build {command!r}: there is no such program")
    return words


def _level(name: str) -> int:
    if name.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise SettingsError(f"--log-level {name!r}: choose debug, info, warning or error")
    return int(getattr(logging, name.upper()))


def _options(run: Run) -> dict[str, Any]:
    options: dict[str, Any] = {"settings": run.settings if run.settings is not None else {}}
    if run.settings is None:
        options["settings"] = {"watch": bool(run.watch or run.build)}
    if run.files:
        options["plugins"] = given.plugins(run.files, run.confs, run.root_ids)
    if run.callouts:
        options["upstreams"] = dict(map(_callout, run.callouts))
    if given.engine(run.engine) != "auto":
        options["engine"] = run.engine
    return options


def _callout(text: str) -> tuple[str, str]:
    name, url = given.pair(text, "--callout")
    given.url(url, "--callout", f"{name}=http://host:port")
    return name, url


async def _serve(run: Run, app: ASGIApp, middleware: WasmMiddleware, printed: Printed, program: Sequence[str]) -> int:
    # Both before the server, so that a refusal is one sentence.
    with ExitStack() as stack:
        bound = bind_all(run.host, run.port)
        for each in bound:
            stack.enter_context(each)
        entries = [entry["name"] for entry in given.plugins(run.files, (), ())]
        typed = told_as_typed(dict(zip(entries, run.files, strict=True)), entries[len(run.confs) :])
        with progress.steps("starting the plugins"), typed, printed.starting():
            await middleware.start()
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="auto"))
        names = ", ".join(run.files) or str(run.settings)
        behind = run.app or run.upstream or "an echo of the request"
        host = f"[{run.host}]" if ":" in run.host else run.host
        console.line(f"http://{host}:{bound[0].getsockname()[1]}/ → {names} → {behind}   (Ctrl-C ends it)", "bold")
        async with _building(program):
            try:
                await server.serve(bound)
            except SystemExit:
                # It has told why.
                return 1
        return 0 if server.started else 1


@asynccontextmanager
async def _building(program: Sequence[str]) -> AsyncIterator[None]:
    """Build anew whenever a source changes, for as long as it lasts; the middleware follows the plugin's file."""
    task = asyncio.ensure_future(_build_on_change(program)) if program else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def _is_source(path: Path) -> bool:
    """Not what a build writes, also for a moment: Go's makes ``plugin.wasm-go-tmp-umask``, and would build for ever.

    Nor what is hidden, which editors, pytest and git write, nor an editor's copy of what was.
    """
    parts = path.relative_to(Path.cwd()).parts
    is_hidden = any(part.startswith(".") for part in parts) or path.name.endswith("~")
    # A file ``build`` is what builds.
    folders = parts if path.is_dir() else parts[:-1]
    return ".wasm" not in path.name and not is_hidden and _BUILT.isdisjoint(folders)


async def _build_on_change(program: Sequence[str]) -> None:
    from watchfiles import awatch

    command = shlex.join(program)
    async for changes in awatch(Path.cwd(), watch_filter=lambda _, path: _is_source(Path(path))):
        changed = sorted({Path(path).name for _, path in changes})
        console.line(f"{', '.join(changed)} changed: {command}", "bold")
        problem = await _built(program)
        goes_on = "the plugin from before goes on"
        console.line(f"{command} {problem}: {goes_on}" if problem else "built", "red" if problem else "green")


async def _built(program: Sequence[str]) -> str:
    """What went wrong, if anything."""
    try:
        process = await asyncio.create_subprocess_exec(*program)
    except OSError as error:
        return f"cannot be run ({error.strerror or error})"
    status = await process.wait()
    return f"failed with exit status {status}" if status else ""
