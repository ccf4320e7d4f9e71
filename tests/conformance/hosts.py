"""Both hosts around the same app, side by side: Envoy before a plain uvicorn, and uvicorn with asgi-wasm."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from tests.conformance.chains import RELOAD_INTERVAL, Chain
from tests.conformance.envoy import Envoy, envoy
from tests.conformance.logs import LogLine, Tail
from tests.serving import ROOT, stop
from tests.waiting import SECONDS

_START_SECONDS = 120.0
_QUIET_SECONDS = 0.1
_BEATS = 5
_LEVELS = {"Level 5": "trace", "DEBUG": "debug", "INFO": "info", "WARNING": "warning", "ERROR": "error"}
_LEVELS["CRITICAL"] = "critical"
_PLUGIN_LOGGER = "asgi_wasm.plugin."


class Host(Protocol):
    """One of the two, as a case sees it."""

    @property
    def ports(self) -> Mapping[str, int]:
        """Where each chain is served, on 127.0.0.1."""
        ...

    def log_lines(self) -> list[LogLine]:
        """What plugins logged so far."""
        ...

    def beat(self) -> None:
        """Let the thread that runs plugins answer something: it has read by then what was sent before."""
        ...


class AsgiWasm:
    """The process of `tests.conformance.app`: asgi-wasm on ``ports``, the plain app for Envoy on ``app_ports``."""

    def __init__(
        self, chains: Sequence[Chain], ports: Sequence[int], log: Path, process: subprocess.Popen[bytes]
    ) -> None:
        self._process = process
        names = [chain.name for chain in chains]
        self.control = f"http://127.0.0.1:{ports[0]}"
        self.app_ports = dict(zip(names, ports[1 : 1 + len(names)], strict=True))
        self.ports = dict(zip(names, ports[1 + len(names) :], strict=True))
        self._log = log
        self._tail = Tail(log, log_line)

    def log_text(self) -> str:
        """All that it logged so far."""
        return self._log.read_text("utf-8")

    def log_lines(self) -> list[LogLine]:
        """What plugins logged so far."""
        return self._tail.lines()

    def beat(self) -> None:
        """`Host.beat`."""
        for _ in range(2):
            httpx.get(self.control, params={"port": 0})

    def end(self) -> None:
        """Let it end by itself, and all that it logs then be there."""
        httpx.post(self.control)
        self._process.wait(SECONDS)

    def take_seen(self) -> dict[int, list[dict[str, Any]]]:
        """What the app saw since the last time, by port: of both hosts."""
        return {int(port): records for port, records in httpx.get(self.control).json().items()}

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Plugin metrics by chain and name; a histogram's are its count and sum."""
        found: dict[str, dict[str, Any]] = httpx.get(f"{self.control}/metrics").json()
        return found


def log_line(line: str) -> LogLine | None:
    """What a plugin said, if this line of the log is of a plugin."""
    logger, level, text = json.loads(line)
    if not logger.startswith(_PLUGIN_LOGGER):
        return None
    return LogLine((logger.removeprefix(_PLUGIN_LOGGER),), _LEVELS[level], text)


@dataclass(frozen=True)
class Hosts:
    """Both, around the same app."""

    envoy: Envoy
    asgi_wasm: AsgiWasm


@contextmanager
def both(
    chains: Sequence[Chain],
    clusters: Mapping[str, int] | None = None,
    *,
    http2_clusters: Mapping[str, int] | None = None,
    log_level: str = "info",
) -> Iterator[Hosts]:
    """Both hosts with these chains. ``clusters`` are named upstreams, as ports on 127.0.0.1; others speak HTTP/2."""
    with (
        asgi_wasm(chains, clusters or {}, log_level, http2_clusters) as ours,
        envoy(chains, ours.app_ports, clusters, grpc_clusters=http2_clusters, log_level=log_level) as theirs,
    ):
        yield Hosts(theirs, ours)


@contextmanager
def asgi_wasm(
    chains: Sequence[Chain],
    clusters: Mapping[str, int],
    log_level: str,
    http2_clusters: Mapping[str, int] | None = None,
) -> Iterator[AsgiWasm]:
    """asgi-wasm alone. Raises RuntimeError when it does not come up."""
    with tempfile.TemporaryDirectory() as folder:
        plan, ports, log, output = (Path(folder, name) for name in ("plan.json", "ports.json", "log", "output"))
        level = 5 if log_level == "trace" else log_level.upper()
        settings = {chain.name: _settings(chain, clusters, http2_clusters or {}, folder) for chain in chains}
        # What parses HTTP, by chain: see `Chain.http`.
        parsers = {chain.name: chain.http for chain in chains}
        told = {"chains": settings, "http": parsers, "ports": str(ports), "log": str(log), "log_level": level}
        plan.write_text(json.dumps(told))
        command = [sys.executable, "-m", "tests.conformance.app", str(plan)]
        with output.open("wb") as stream:
            process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not (ports.exists() and ports.read_text()):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"asgi-wasm did not start:\n{output.read_text()}\n{log.read_text()}")
                time.sleep(0.02)
            yield AsgiWasm(chains, json.loads(ports.read_text()), log, process)
        finally:
            stop(process)


def _settings(
    chain: Chain, clusters: Mapping[str, int], http2_clusters: Mapping[str, int], folder: str
) -> dict[str, Any]:
    count = len(chain.plugins)
    plugins = [
        {
            "name": entry.name,
            "priority": count - index,
            "file": str(entry.path),
            "conf": entry.conf,
            "root_id": entry.root_id,
            "vm_id": chain.name,
            "vm_conf": entry.vm_conf,
            "env": dict(entry.env),
            "failure_policy": entry.failure_policy,
            "reload_config": {"backoff": {"base_interval": RELOAD_INTERVAL}},
            "allow_on_headers_stop_iteration": entry.allow_on_headers_stop_iteration,
        }
        for index, entry in enumerate(chain.plugins)
    ]
    upstreams: dict[str, Any] = {name: f"http://127.0.0.1:{port}" for name, port in clusters.items()}
    for name, port in http2_clusters.items():
        upstreams[name] = {"url": f"http://127.0.0.1:{port}", "http2": True}
    # A busy machine may leave a plugin standing in the middle of a callback, and it would be stopped for that.
    limits: dict[str, Any] = {"callback_ms": 60_000, "slow_callback_ms": 0}
    if chain.limit is not None:
        limits |= {"request_body": chain.limit, "response_body": chain.limit}
    return {"plugins": plugins, "upstreams": upstreams, "cache_dir": f"{folder}/compiled", "limits": limits}


def settle(host: Host, seconds: float = _QUIET_SECONDS) -> list[LogLine]:
    """The log, once nothing was added to it for a while in which the host answered several times."""
    lines, quiet = host.log_lines(), 0
    while quiet < _BEATS:
        time.sleep(seconds / _BEATS)
        host.beat()
        now = host.log_lines()
        quiet = quiet + 1 if len(now) == len(lines) else 0
        lines = now
    return lines
