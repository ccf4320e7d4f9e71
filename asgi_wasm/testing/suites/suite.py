"""Runs plugin tests in the format of Google's service-extensions tester.

Followed: GoogleCloudPlatform/service-extensions `plugins/test/runner.proto`, `dynamic_test.cc`, `framework.cc`. As
there: headers are never the end of a stream, the last piece of a body is; a local response ends the phases; `on_log`
is not called. Otherwise than there: names of headers are in lower case, as in every HTTP/2 proxy.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from asgi_wasm.engines.base import Engine
from asgi_wasm.engines.cache import ModuleCache
from asgi_wasm.errors import PluginError, SettingsError
from asgi_wasm.host import directions
from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.plugin import Code
from asgi_wasm.specs import PluginSpec, RemoteFile
from asgi_wasm.testing.suites.benchmarks import Benchmark, Crowd, Step, measure
from asgi_wasm.testing.suites.expectations import failures, shown
from asgi_wasm.testing.suites.stage import PhaseResult, Stage, VmFailedError
from asgi_wasm.testing.suites.textpb import read_suite
from asgi_wasm.worker.loading import compile_plugin


@dataclass
class TestResult:
    """What came of one test; it has passed when ``failures`` is empty. ``seconds`` it took, ``logs`` it logged.

    ``plugin`` is its file's name; ``benchmark`` what it costs, if it is one and has passed. ``log_path`` is where the
    file wants what was logged: it is written, but for standard output and error, which are the command's.
    """

    __test__ = False

    file: str
    name: str
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    logs: list[str] = field(default_factory=list)
    plugin: str = ""
    benchmark: Benchmark | None = None
    log_path: str = ""


@dataclass(frozen=True)
class Options:
    """What the command line says in place of the file, where it says anything."""

    plugin: Path | RemoteFile | None = None
    conf: bytes | None = None
    root_id: str = ""
    cache_dir: Path | None = None


def run_file(path: Path, engine: Engine, options: Options) -> Iterable[TestResult]:
    """Every test of a file, each with a plugin of its own. Raises `AsgiWasmError` for what cannot be run at all."""
    suite = read_suite(path)
    env = suite.env if suite.HasField("env") else suite.runtime
    spec = _plugin(path, env, options)
    code, _ = compile_plugin(engine, spec, ModuleCache(options.cache_dir))
    level = max(env.log_level, env.min_log_level) or _INFO
    for test in suite.test:
        result = _Run(path, test, spec, code, LogLevel(level - 1), env).result()
        result.log_path = env.log_path
        _write_log(result)
        yield result


def _write_log(result: TestResult) -> None:
    """Append it, as the tester does. Raises `SettingsError`."""
    if not result.log_path or result.log_path in STREAMS:
        return
    try:
        with open(result.log_path, "a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in result.logs)
    except OSError as error:
        raise SettingsError(
            f"{result.file}: log_path {result.log_path!r} cannot be written: {error.strerror or error}"
        ) from None


STREAMS = ("/dev/stdout", "/dev/stderr")
# Of the format's own levels, which begin at 1.
_INFO = 3


def _plugin(path: Path, env: Any, options: Options) -> PluginSpec:
    file = options.plugin or (_beside(path, env.wasm_path) if env.wasm_path else None)
    if file is None:
        raise SettingsError(f"{path}: names no wasm_path: give --plugin FILE")
    if isinstance(file, Path) and not options.plugin and not file.exists():
        raise SettingsError(
            f"{path}: its wasm_path {env.wasm_path!r} is no file: build the plugin first, or give --plugin FILE"
        )
    conf = options.conf
    if conf is None and env.config_path:
        conf = _read(path, env.config_path)
    return PluginSpec(name="test", file=file, conf=conf or b"", root_id=options.root_id)


def _beside(path: Path, name: str) -> Path:
    return path.parent / name


def _read(path: Path, name: str) -> bytes:
    try:
        return _beside(path, name).read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: file {name!r} cannot be read: {error.strerror or error}") from None


class _Run:
    """One test."""

    def __init__(self, path: Path, test: Any, spec: PluginSpec, code: Code, level: LogLevel, env: Any) -> None:
        self._path = path
        self._test = test
        self._plugin = spec, code
        self._level = level
        self._seconds = env.time_secs
        self._crowd = Crowd(env.num_additional_streams, env.additional_stream_advance_rate or Crowd.rate)
        self._result = TestResult(str(path), test.name, plugin=Path(str(spec.file)).name)
        self._phase = "plugin_init"

    def result(self) -> TestResult:
        """Run it. Nothing that is wrong with the test or the plugin is raised."""
        began = time.perf_counter()
        stage: Stage | None = None
        try:
            stage = self._stage()
            self._check(self._test.plugin_init, stage.started(), is_phase=False)
            stage.log.every_call.clear()
            self._run(stage)
            if self._test.benchmark and not self._result.failures:
                self._result.benchmark = self._measure(stage.hostcalls)
        except VmFailedError as error:
            self._fail(f"the VM failed: {error}")
        except (PluginError, SettingsError) as error:
            self._fail(str(error))
        finally:
            if stage is not None:
                self._result.logs = [str(line) for line in stage.log.lines]
                stage.close()
        self._result.seconds = time.perf_counter() - began
        return self._result

    def _stage(self, *, is_traced: bool = True) -> Stage:
        properties = {each.path: each.value for each in self._test.properties}
        return Stage(
            *self._plugin, level=self._level, seconds=self._seconds, properties=properties, is_traced=is_traced
        )

    def _measure(self, hostcalls: int) -> Benchmark:
        self._phase = "benchmark"
        stage = self._stage(is_traced=False)
        try:
            return measure(stage, [*self._steps()], hostcalls, self._crowd)
        finally:
            stage.close()

    def _steps(self) -> Iterator[Step]:
        """What `_run` does, without looking at it."""
        for direction, way in enumerate(directions.NAMES):
            if self._test.HasField(f"{way}_headers"):
                given = getattr(self._test, f"{way}_headers").input
                yield partial(Stage.headers, direction=direction, pairs=self._headers(given, direction))
            for invocation in getattr(self._test, f"{way}_body"):
                pieces = self._pieces(invocation.input)
                for index, piece in enumerate(pieces):
                    last = index == len(pieces) - 1
                    yield partial(Stage.body, direction=direction, data=piece, end_of_stream=last)

    def _fail(self, problem: str) -> None:
        self._result.failures.append(f"[{self._phase}] {problem}")

    def _run(self, stage: Stage) -> None:
        test = self._test
        self._phase = "stream_init"
        self._check(test.stream_init, stage.open(), is_phase=False)
        for direction, way in enumerate(directions.NAMES):
            if test.HasField(f"{way}_headers"):
                self._phase = f"{way}_headers"
                invocation = getattr(test, self._phase)
                self._check(invocation.result, stage.headers(direction, self._headers(invocation.input, direction)))
            self._bodies(stage, direction, f"{way}_body")
        self._phase = "stream_destroy"
        self._check(test.stream_destroy, stage.close_stream(), is_phase=False)

    def _bodies(self, stage: Stage, direction: int, phase: str) -> None:
        self._phase = phase
        invocations = getattr(self._test, phase)
        if self._has_plan and len(invocations) > 1:
            self._fail("a plan of chunks goes with one invocation")
            return
        for invocation in invocations:
            pieces = self._pieces(invocation.input)
            whole = PhaseResult()
            for index, piece in enumerate(pieces):
                result = stage.body(direction, piece, index == len(pieces) - 1)
                whole.body += result.body
                whole.logs += result.logs
                whole.immediate = whole.immediate or result.immediate
            self._check(invocation.result, whole)

    @property
    def _has_plan(self) -> bool:
        return bool(self._test.HasField("num_chunks") or self._test.HasField("chunk_size"))

    def _pieces(self, given: Any) -> Sequence[bytes]:
        data = _read(self._path, given.file) if given.file else given.content
        return self._chunks(data) if self._has_plan else [data]

    def _chunks(self, data: bytes) -> Sequence[bytes]:
        count, size = self._test.num_chunks, self._test.chunk_size
        if count < 0 or size < 0 or not (count or size):
            raise SettingsError("num_chunks or chunk_size must be greater than 0")
        if size:
            return [data[at : at + size] for at in range(0, len(data), size)] or [b""]
        # All but the last are equal, and the last has what is left.
        length = len(data) // count or 1
        cut = [data[at * length : (at + 1) * length] for at in range(count - 1)]
        return [*cut, data[(count - 1) * length :]]

    def _headers(self, given: Any, direction: int) -> list[tuple[bytes, bytes]]:
        if given.file or given.content:
            text = _read(self._path, given.file) if given.file else given.content
            return _parsed(text, is_request=direction == directions.REQUEST)
        joined: dict[bytes, bytes] = {}
        for header in given.header:
            name = header.key.lower().encode()
            joined[name] = joined[name] + b", " + header.value if joined.get(name) else header.value
        return list(joined.items())

    def _check(self, expected: Any, result: PhaseResult, *, is_phase: bool = True) -> None:
        for problem in failures(expected, result, partial(_read, self._path), is_phase=is_phase):
            self._fail(problem)


def _parsed(content: bytes, *, is_request: bool) -> list[tuple[bytes, bytes]]:
    """The head of an HTTP/1.1 message as HTTP/2 has it. Raises `SettingsError`."""
    first, *lines = content.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")
    parts = first.split(b" ", 2)
    if len(parts) < 2:
        raise SettingsError(f"the content {shown(first)} is no head of an HTTP message")
    pairs = [(b":method", parts[0]), *_target(parts[1])] if is_request else [(b":status", parts[1])]
    named = any(name == b":authority" for name, _ in pairs)
    for line in filter(None, lines):
        name, colon, value = line.partition(b":")
        if not colon:
            raise SettingsError(f"the content has the line {shown(line)}, which is no header")
        key = name.strip().lower()
        if is_request and key == b"host":
            # That of the target counts, where it is a whole URL (RFC 9112 3.2.2).
            if not named:
                pairs.append((b":authority", value.strip()))
        else:
            pairs.append((key, value.strip()))
    return pairs


def _target(target: bytes) -> list[tuple[bytes, bytes]]:
    scheme, is_url, rest = target.partition(b"://")
    if not is_url:
        return [(b":path", target)]
    authority, slash, path = rest.partition(b"/")
    return [(b":scheme", scheme), (b":authority", authority), (b":path", slash + path or b"/")]
