"""``asgi-wasm import``: our settings from those of Envoy, Istio or APISIX.

Followed: Envoy's `envoy.extensions.filters.http.wasm.v3.Wasm`, Istio's `WasmPlugin`, APISIX's `wasm` section and
routes. What cannot be carried over is told, one sentence each, and never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from asgi_wasm.cli import console
from asgi_wasm.errors import SettingsError
from asgi_wasm.fetching.names import is_remote, parse
from asgi_wasm.settings.files import decode, read_bytes, shown

_WASM_FILTER = "envoy.extensions.filters.http.wasm.v3.Wasm"
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")
# Istio's phases run in this order; within one the greater priority runs first.
_PHASES = {"AUTHN": 3000, "AUTHZ": 2000, "STATS": 1000, "": 0}


@dataclass
class Found:
    """Settings of ours, and what was left behind."""

    plugins: list[dict[str, Any]] = field(default_factory=list)
    routes: list[dict[str, Any]] = field(default_factory=list)
    upstreams: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def add(self, entry: dict[str, Any]) -> None:
        """A plugin, under a name that is free."""
        name = _NOT_A_NAME.sub("-", str(entry.pop("name", "") or "plugin")).strip("-") or "plugin"
        taken = {plugin["name"] for plugin in self.plugins}
        free = next(each for each in (name, *(f"{name}-{n}" for n in range(2, 10_000))) if each not in taken)
        self.plugins.append(
            {"name": free, **{key: value for key, value in entry.items() if value not in (None, "", {})}}
        )


def import_settings(path: Path) -> int:
    """Print the settings as YAML, and on standard error what is missing. Raises `SettingsError`."""
    text = decode(read_bytes(path), path.name)
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except (yaml.YAMLError, RecursionError) as error:
        raise SettingsError(f"{shown(path.name)}: is no YAML: {' '.join(str(error).split())[:200]}") from None
    found = Found()
    for number, document in enumerate(documents, 1):
        try:
            _read(document, found)
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            # It is somebody else's configuration, of which the shape alone is looked at.
            raise SettingsError(
                f"{shown(path.name)}: document {number} has not the shape that Envoy, Istio or APISIX reads: {error}"
            ) from None
    if not found.plugins:
        raise SettingsError(
            f"{shown(path.name)}: holds no Envoy HTTP filter of type {_WASM_FILTER}, no Istio WasmPlugin and no wasm"
            " section of APISIX"
        )
    settings: dict[str, Any] = {"plugins": found.plugins}
    if found.routes:
        settings["routes"] = found.routes
    if found.upstreams:
        settings["upstreams"] = found.upstreams
    print(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), end="")
    for sentence in found.left:
        console.error(sentence)
    return 0


def _read(document: Any, found: Found) -> None:
    if isinstance(document, Mapping) and document.get("kind") == "WasmPlugin":
        _istio(document, found)
        return
    if isinstance(document, Mapping) and ("wasm" in document or isinstance(document.get("routes"), list)):
        _apisix(document, found)
        return
    filters = list(_walk(document))
    for index, (name, config) in enumerate(filters):
        # Envoy runs them in the order of its list.
        _envoy(name, config, len(filters) - index, found)
    if filters:
        found.upstreams.update(_clusters(document, found))


# --- Envoy


def _walk(value: Any, name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each configuration of a Wasm filter, with the filter's name."""
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, name)
    elif isinstance(value, Mapping):
        here = str(value.get("name") or name)
        if str(value.get("@type", "")).endswith(_WASM_FILTER) and isinstance(value.get("config"), Mapping):
            yield here, value["config"]
        elif str(value.get("type_url", "")).endswith(_WASM_FILTER) and isinstance(value.get("value"), Mapping):
            yield here, value["value"].get("config") or {}
        else:
            for item in value.values():
                yield from _walk(item, here)


_OF_PLUGIN = {
    *("name", "root_id", "vm_config", "configuration", "fail_open", "failure_policy", "reload_config"),
    *("capability_restriction_config", "allow_on_headers_stop_iteration"),
}
_OF_VM = {"vm_id", "runtime", "code", "configuration", "allow_precompiled", "environment_variables"}


def _envoy(filter_name: str, config: Mapping[str, Any], priority: int, found: Found) -> None:
    vm = config.get("vm_config") or {}
    name = config.get("name") or filter_name
    code = (vm.get("code") or {}) if isinstance(vm, Mapping) else {}
    entry: dict[str, Any] = {
        "name": name,
        "priority": priority,
        "file": _local(code, name, found),
        "sha256": (code.get("remote") or {}).get("sha256"),
        "conf": _any(config.get("configuration")),
        "root_id": config.get("root_id"),
        "vm_id": vm.get("vm_id"),
        "vm_conf": _any(vm.get("configuration")),
        "env": (vm.get("environment_variables") or {}).get("key_values"),
        "failure_policy": _policy(config, name, found),
        "allow_on_headers_stop_iteration": config.get("allow_on_headers_stop_iteration"),
        "reload_config": config.get("reload_config"),
        "allowed_capabilities": sorted(
            ((config.get("capability_restriction_config") or {}).get("allowed_capabilities") or {}).keys()
        )
        or None,
    }
    if (vm.get("environment_variables") or {}).get("host_env_keys"):
        found.left.append(f"plugin {name!r}: host_env_keys: give the values in env, since no plugin sees the process's")
    for key in sorted({*config} - _OF_PLUGIN):
        found.left.append(f"plugin {name!r}: {key} has no counterpart here")
    for key in sorted({*vm} - _OF_VM):
        found.left.append(f"plugin {name!r}: vm_config.{key} has no counterpart here")
    found.add(entry)


def _local(code: Mapping[str, Any], name: Any, found: Found) -> str:
    local = code.get("local") or {}
    if "filename" in local:
        return str(local["filename"])
    remote = code.get("remote") or {}
    return _remote(str((remote.get("http_uri") or {}).get("uri") or ""), remote.get("sha256"), name, found)


def _remote(url: str, sha256: str | None, name: Any, found: Found) -> str:
    """The URL, where it is one that is fetched here."""
    problem = ""
    if is_remote(url):
        try:
            parse(url, sha256)
        except ValueError as error:
            problem = f", which {error}"
        else:
            return url
    where = url or "not named, or stands inline"
    found.left.append(f"plugin {name!r}: its code is {where}{problem}: store it as {name}.wasm, or give another file")
    return f"{name}.wasm"


def _any(value: Any) -> Any:
    """What Envoy packs into an Any: the text of a StringValue, or a Struct, which plugins get as JSON."""
    if isinstance(value, Mapping) and ("@type" in value or "type_url" in value):
        if "value" in value:
            return value["value"]
        return {key: item for key, item in value.items() if key not in ("@type", "type_url")}
    return value


def _policy(config: Mapping[str, Any], name: Any, found: Found) -> str | None:
    policy = config.get("failure_policy")
    if policy in (None, "UNSPECIFIED"):
        return "fail_open" if config.get("fail_open") else None
    if str(policy).lower() not in ("fail_closed", "fail_open", "fail_reload"):
        found.left.append(f"plugin {name!r}: failure_policy {policy!r} is unknown")
        return None
    return str(policy).lower()


def _clusters(document: Any, found: Found) -> dict[str, str]:
    """Clusters that plugins may call: which of them they do call, nobody can tell."""
    resources = document.get("static_resources") if isinstance(document, Mapping) else None
    clusters = (resources or {}).get("clusters") if isinstance(resources, Mapping) else None
    upstreams: dict[str, str] = {}
    for cluster in clusters or ():
        name = str(cluster.get("name", ""))
        address = next(_addresses(cluster.get("load_assignment")), None)
        if address is None:
            found.left.append(
                f"cluster {name!r}: has no address of its own: name its URL under upstreams if plugins call it"
            )
            continue
        scheme = "https" if "transport_socket" in cluster else "http"
        upstreams[name] = f"{scheme}://{address[0]}:{address[1]}"
    return upstreams


def _addresses(value: Any) -> Iterator[tuple[str, int]]:
    if isinstance(value, list):
        for item in value:
            yield from _addresses(item)
    elif isinstance(value, Mapping):
        socket = value.get("socket_address")
        if isinstance(socket, Mapping) and "port_value" in socket:
            yield str(socket.get("address")), int(socket["port_value"])
        else:
            for item in value.values():
                yield from _addresses(item)


# --- Istio

_OF_ISTIO = {
    *("url", "sha256", "pluginConfig", "pluginName", "phase", "priority", "failStrategy", "vmConfig"),
    *("imagePullPolicy", "imagePullSecret", "selector", "targetRefs", "match", "verificationKey", "type"),
}


def _istio(document: Mapping[str, Any], found: Found) -> None:
    spec = document.get("spec") or {}
    name = spec.get("pluginName") or (document.get("metadata") or {}).get("name") or "plugin"
    url = str(spec.get("url", ""))
    if url and not is_remote(url):
        # Istio's own reading.
        url = f"oci://{url}"
    is_local = url.startswith("file://")
    file = url.removeprefix("file://") if is_local else _remote(url, spec.get("sha256"), name, found)
    env: dict[str, Any] = {}
    for variable in (spec.get("vmConfig") or {}).get("env") or ():
        if variable.get("valueFrom") == "HOST":
            found.left.append(
                f"plugin {name!r}: env {variable.get('name')!r} comes from the host: give its value in env"
            )
        else:
            env[str(variable.get("name"))] = str(variable.get("value", ""))
    policy = {"FAIL_CLOSE": None, "FAIL_OPEN": "fail_open", "FAIL_RELOAD": "fail_reload"}
    for key in ("selector", "targetRefs", "match", "verificationKey"):
        if key in spec:
            found.left.append(f"plugin {name!r}: {key} has no counterpart here: say with routes where it runs")
    for key in sorted({*spec} - _OF_ISTIO):
        found.left.append(f"plugin {name!r}: {key} has no counterpart here")
    found.add(
        {
            "name": name,
            "priority": _PHASES.get(str(spec.get("phase", "")).replace("UNSPECIFIED_PHASE", ""), 0)
            + int(spec.get("priority") or 0),
            "file": file,
            "sha256": spec.get("sha256"),
            "conf": spec.get("pluginConfig"),
            "env": env,
            "failure_policy": policy.get(str(spec.get("failStrategy", "FAIL_CLOSE"))),
        }
    )


# --- APISIX


def _apisix(document: Mapping[str, Any], found: Found) -> None:
    for plugin in (document.get("wasm") or {}).get("plugins") or ():
        entry = {key: plugin[key] for key in ("name", "priority", "file") if key in plugin}
        if plugin.get("http_request_phase"):
            found.left.append(
                f"plugin {entry.get('name')!r}: http_request_phase: there is one phase here, ordered by priority"
            )
        found.add(entry)
    names = {plugin["name"] for plugin in found.plugins}
    for route in document.get("routes") or ():
        confs: dict[str, Any] = {}
        for name, conf in (route.get("plugins") or {}).items():
            if name in names:
                confs[name] = {"conf": (conf or {}).get("conf", "")}
            else:
                found.left.append(f"route {route.get('uri') or route.get('uris')!r}: plugin {name!r} is none of Wasm")
        if confs:
            kept = {key: route[key] for key in ("uri", "uris", "host", "hosts", "methods") if key in route}
            found.routes.append({**kept, "plugins": confs})
        for key in ("vars", "filter_func", "remote_addr", "remote_addrs"):
            if key in route:
                found.left.append(f"route {route.get('uri') or route.get('uris')!r}: {key} has no counterpart here")
