"""``asgi-wasm test``: plugin tests in the format of Google's service-extensions tester."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree import ElementTree

from asgi_wasm.cli import baselines, console, given, progress
from asgi_wasm.cli.plugin_files import plugin_file
from asgi_wasm.engines import create_engine
from asgi_wasm.engines.base import Engine
from asgi_wasm.errors import AsgiWasmError, MissingExtraError, SettingsError, one_line
from asgi_wasm.logs import escape
from asgi_wasm.testing.suites.suite import STREAMS, Options, TestResult, run_file

_NAMES = ("*.textpb", "*tests.yaml", "*tests.yml")


@dataclass(frozen=True)
class Chosen:
    """What the command line says."""

    plugin: str | None = None
    conf: str | None = None
    root_id: str = ""
    engine: str = "auto"
    junit: Path | None = None
    update: bool = False
    tolerance: float = 0.0


def run_suites(paths: Sequence[Path], chosen: Chosen, *, as_json: bool) -> int:
    """Print what came of each test; 1 where any failed. Raises `AsgiWasmError`."""
    made = create_engine(given.engine(chosen.engine))
    options = Options(
        None if chosen.plugin is None else plugin_file(chosen.plugin),
        None if chosen.conf is None else given.conf(chosen.conf).encode(),
        chosen.root_id,
    )
    results: list[TestResult] = []
    files = _files(paths)
    with progress.steps("running the tests of files", len(files)) as done:
        for path in files:
            of_file = _results(path, made, options, is_alone=len(files) == 1)
            if not chosen.update:
                baselines.compare(path, of_file, chosen.tolerance)
            results += of_file
            wrote = baselines.update(path, of_file) if chosen.update else None
            if not as_json:
                _print_file(of_file, wrote)
            done(1)
    if chosen.junit is not None:
        _write(chosen.junit, results)
    failed = [result for result in results if result.failures]
    if as_json:
        console.json_out([asdict(result) for result in results])
    else:
        passed = len(results) - len(failed)
        console.line(f"{passed} passed, {len(failed)} failed", "red" if failed else "green")
    return int(bool(failed))


def _results(path: Path, engine: Engine, options: Options, *, is_alone: bool) -> list[TestResult]:
    """Those of a file; of several, one that cannot be run is a test that fails. Raises `AsgiWasmError`."""
    try:
        return [*run_file(path, engine, options)]
    except AsgiWasmError as error:
        if is_alone or isinstance(error, MissingExtraError):
            raise
        return [TestResult(str(path), "the file", [one_line(error)])]


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted({file for pattern in _NAMES for file in path.rglob(pattern)})
        elif path.suffix == ".wasm":
            raise SettingsError(f"{path} is a plugin: give a file of tests, and the plugin with --plugin {path}")
        elif path.is_file():
            found.append(path)
        else:
            raise SettingsError(f"{path} does not exist: give a .textpb or .yaml file, or a folder of them")
    if not found:
        raise SettingsError(f"no tests: none of {', '.join(map(str, paths))} has a .textpb file or a *tests.yaml")
    return found


def _print_file(results: Sequence[TestResult], wrote: Path | None) -> None:
    for result in results:
        _print(result)
    if wrote is not None:
        console.line(f"wrote {wrote}")


def _print(result: TestResult) -> None:
    mark, style = ("FAILED", "red") if result.failures else ("passed", "green")
    console.line(f"{mark}  {result.file}::{result.name}  {result.seconds * 1000:.1f} ms", style)
    if (costs := result.benchmark) is not None:
        memory = f"{costs.memory >> 10} KiB"
        console.line(
            f"        a stream: {costs.microseconds:.1f} µs, {costs.hostcalls} hostcalls; memory {memory}", "dim"
        )
    for failure in result.failures:
        console.line(f"        {failure}")
    for text in result.logs if result.failures or result.log_path in STREAMS else ():
        console.line(f"        log: {text}", "dim")


def _write(path: Path, results: Sequence[TestResult]) -> None:
    """JUnit's XML, as CI systems read it."""
    root = ElementTree.Element("testsuites")
    failures = sum(bool(result.failures) for result in results)
    counts = {"tests": str(len(results)), "failures": str(failures), "time": f"{sum(r.seconds for r in results):.6f}"}
    suite = ElementTree.SubElement(root, "testsuite", {"name": "asgi-wasm", **counts})
    for result in results:
        case = {"classname": escape(result.file), "name": escape(result.name), "time": f"{result.seconds:.6f}"}
        element = ElementTree.SubElement(suite, "testcase", case)
        if result.failures:
            failure = ElementTree.SubElement(element, "failure", message=escape(result.failures[0]))
            failure.text = _text(result.failures)
        if result.logs:
            ElementTree.SubElement(element, "system-out").text = _text(result.logs)
    try:
        ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise SettingsError(f"--junit {path}: cannot be written: {error.strerror or error}") from None


def _text(lines: Sequence[str]) -> str:
    """What XML cannot hold, a plugin may have logged."""
    return "\n".join(map(escape, lines))
