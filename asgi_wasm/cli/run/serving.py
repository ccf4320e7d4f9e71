"""``asgi-wasm run``: plugins in front of an app, an HTTP server or an echo, on this machine, while they are written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import uvicorn

from asgi_wasm.asgi.types import ASGIApp
from asgi_wasm.cli import console, given, progress
from asgi_wasm.cli.plugin_files import plugin_file, told_as_typed
from asgi_wasm.cli.run import building
from asgi_wasm.cli.run.app_behind import app_behind
from asgi_wasm.cli.run.listening import bind_all
from asgi_wasm.cli.run.live import Announced, Printed, TracedLog
from asgi_wasm.errors import MissingExtraError, PluginError, SettingsError
from asgi_wasm.logs import get_logger
from asgi_wasm.middleware import WasmMiddleware
from asgi_wasm.worker.services import Services
from asgi_wasm.worker.watch import changes, states


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
    if run.watch and not run.build and building.is_usual_there():
        run = replace(run, build=building.USUAL)
    program = building.program(run.build) if run.build else []
    # At once, since the server would tell the same in many lines.
    app = app_behind(run.app, run.upstream)
    level = _level(run.log_level)
    if program:
        asyncio.run(building.build_first(program))
    kind = _Traced if run.trace else WasmMiddleware
    options = _options(run)
    made: list[WasmMiddleware] = []

    def plugged(behind: ASGIApp) -> ASGIApp:
        made.append(kind(behind, **options))
        return made[0]

    logger = get_logger("asgi_wasm")
    printed = Printed()
    before = logger.level
    logger.setLevel(level)
    logger.addHandler(printed)
    try:
        announced = Announced(plugged, app)
        return asyncio.run(_serve(run, announced, made[0], printed, program))
    finally:
        logger.removeHandler(printed)
        logger.setLevel(before)


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

        def if_not_built() -> str:
            return "the plugin from before goes on" if middleware.status().started else building.WAITS

        async with building.building(program, if_not_built):
            await _start(run, middleware, printed)
            server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="auto"))
            names = ", ".join(run.files) or str(run.settings)
            behind = run.app or run.upstream or "an echo of the request"
            host = f"[{run.host}]" if ":" in run.host else run.host
            console.line(f"http://{host}:{bound[0].getsockname()[1]}/ → {names} → {behind}   (Ctrl-C ends it)", "bold")
            try:
                await server.serve(bound)
            except SystemExit:
                # It has told why.
                return 1
        return 0 if server.started else 1


async def _start(run: Run, middleware: WasmMiddleware, printed: Printed) -> None:
    """Start the plugins; where their files are watched, as often as they change, until it works. Raises otherwise."""
    names = [entry["name"] for entry in given.plugins(run.files, (), ())]
    files = [found for file in run.files if isinstance(found := plugin_file(file), Path)]
    while True:
        before = states(files)
        typed = told_as_typed(dict(zip(names, run.files, strict=True)), names[len(run.confs) :])
        try:
            with progress.steps("starting the plugins"), typed, printed.starting():
                await middleware.start()
            return
        except PluginError as error:
            if not (files and (run.watch or run.build)):
                raise
            console.error(error)
            console.line(f"waits for the next change of {', '.join(run.files)}   (Ctrl-C ends it)", "bold")
        async with aclosing(changes(before)) as news:
            await anext(news)
