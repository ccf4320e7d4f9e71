"""``asgi-wasm check``: what a start would refuse, before there is a server to start."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from asgi_wasm import settings
from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.cli import console, progress
from asgi_wasm.cli.overheard import overheard
from asgi_wasm.errors import AsgiWasmError, PluginError, SettingsError
from asgi_wasm.fetching.fetcher import Fetcher
from asgi_wasm.settings.files import shown
from asgi_wasm.settings.lines import line_of
from asgi_wasm.specs import FailurePolicy, HostSpec, PluginSpec
from asgi_wasm.worker.plugin_file import read_plugin_file
from asgi_wasm.worker.routing import of_none
from asgi_wasm.worker.shared import Shared
from asgi_wasm.worker.worker import Worker

# Mistakes name what a key stands in; the line is to be the key's own.
_UNKNOWN_KEY = re.compile(r"unknown key '([^']*)'")


@dataclass(frozen=True)
class Finding:
    """One thing to mend. ``level`` is "error" for what a start refuses, else "warning"; ``line`` counts from 1."""

    level: str
    problem: str
    file: str = ""
    line: int | None = None
    key: str = ""
    plugin: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{place}{f'{self.key}: ' if self.key else ''}{self.problem}"


@dataclass(frozen=True)
class PluginRow:
    """One plugin of the settings; ``state`` is "started", "loaded", "refused" or "not tried"."""

    name: str
    file: str
    sha256: str
    priority: int
    state: str


def check_settings(path: Path | None, *, start: bool, as_json: bool) -> int:
    """Print all that is wrong; 1 if a start would refuse any of it."""
    plugins: list[PluginRow] = []
    spec = HostSpec()
    try:
        spec = settings.load(path)
    except SettingsError as error:
        findings = [*_of_settings(error)]
    else:
        digests, unreadable = _read_files(spec)
        if start:
            with progress.steps("loading and starting the plugins"), overheard() as said:
                findings, refused = asyncio.run(_start(spec))
            findings += [Finding("warning", line) for line in said]
        else:
            findings, refused = unreadable, set()
        state = "started" if start else "readable"
        plugins = [_row(plugin, digests.get(plugin.name), state, refused) for plugin in spec.plugins]
        if (told := of_none(spec)) is not None:
            findings.append(Finding("warning", told))
    failed = any(finding.level == "error" for finding in findings)
    if as_json:
        upstreams = {upstream.name: upstream.url for upstream in spec.upstreams}
        shown = {"ok": not failed, "findings": [*map(asdict, findings)], "plugins": [*map(asdict, plugins)]}
        console.json_out({**shown, "upstreams": upstreams, "sources": [*map(str, spec.sources)]})
    else:
        _print(spec, findings, plugins)
    return int(failed)


def _of_settings(error: SettingsError) -> Iterable[Finding]:
    if not error.mistakes:
        yield Finding("error", str(error))
    for mistake in error.mistakes:
        unknown = _UNKNOWN_KEY.match(mistake.problem)
        key = f"{mistake.key}.{unknown[1]}" if unknown else mistake.key
        line = mistake.line
        if line is None and mistake.file is not None:
            line = line_of(mistake.file, key)
        place = mistake.source if line is None else _path(mistake.file)
        yield Finding("error", mistake.problem, place, line, mistake.key)


def _path(file: Path | None) -> str:
    """As an editor or CI finds it from here."""
    if file is None:
        return ""
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)


def _read_files(spec: HostSpec) -> tuple[dict[str, str], list[Finding]]:
    """The digest of each plugin's file, by the plugin's name, and what is wrong with the others."""
    digests, findings = {}, []
    fetcher = Fetcher(spec.cache_dir, spec.fetch_timeout)
    for plugin in spec.plugins:
        try:
            digests[plugin.name] = read_plugin_file(plugin, fetcher)[1]
        except PluginError as error:
            findings.append(_of_plugin(spec, error))
    return digests, findings


def _of_plugin(spec: HostSpec, error: PluginError) -> Finding:
    """A plugin that fails open is passed over at a start; so it refuses nothing."""
    policy = next(plugin.failure_policy for plugin in spec.plugins if plugin.name == error.plugin)
    level = "warning" if policy is FailurePolicy.FAIL_OPEN else "error"
    told = str(error)
    # What the settings name by a key of its own is pointed at: the file, and the conf that the plugin refuses.
    key = f"plugins.{error.plugin}"
    named = error.problem.partition(f"{key}.file: ")
    if named[1]:
        key, problem = f"{key}.file", f"{shown(error.file)}: {named[2]}"
    else:
        key += ".conf" if "(on_configure answered false)" in error.problem.partition(";")[0] else ""
        problem = told
    for source in spec.sources:
        if (line := line_of(source, key)) is not None:
            return Finding(level, problem, _path(source), line, key if named[1] else "", error.plugin)
    return Finding(level, told, plugin=error.plugin)


async def _start(spec: HostSpec) -> tuple[list[Finding], set[str]]:
    """Load, start and configure each plugin as a server would, and end it."""
    try:
        worker = Worker(_no_app, spec, {}, Shared())
    except AsgiWasmError as error:
        return [Finding("error", str(error))], {plugin.name for plugin in spec.plugins}
    try:
        await worker.start(spec)
        errors = worker.plugins.errors()
    except AsgiWasmError as error:
        return [Finding("error", str(error))], {plugin.name for plugin in spec.plugins}
    finally:
        await worker.stop()
    return [_of_plugin(spec, error) for error in errors], {error.plugin for error in errors}


async def _no_app(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("nothing is requested")


def _row(plugin: PluginSpec, digest: str | None, state: str, refused: set[str]) -> PluginRow:
    shown = "refused" if digest is None or plugin.name in refused else state
    return PluginRow(plugin.name, plugin.shown_file, digest or "", plugin.priority, shown)


def _print(spec: HostSpec, findings: list[Finding], plugins: list[PluginRow]) -> None:
    if plugins:
        headings = ("plugin", "priority", "state", "sha256", "file")
        rows = [(row.name, row.priority, row.state, row.sha256[:12], row.file) for row in plugins]
        console.table(headings, rows, {"started": "green", "refused": "red"})
    if spec.upstreams:
        console.table(("upstream", "url"), [(upstream.name, upstream.url) for upstream in spec.upstreams])
    for finding in findings:
        if finding.level == "error":
            console.error(finding)
        else:
            console.line(f"warning: {finding}", "yellow")
    count = sum(finding.level == "error" for finding in findings)
    console.line(f"{count} mistake{'s' * (count != 1)}: a server would not start" if count else "a server would start")
