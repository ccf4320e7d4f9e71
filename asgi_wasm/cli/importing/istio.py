"""Istio's ``WasmPlugin`` and ``TrafficExtension``, and Higress's ``WasmPlugin``, which has it from there.

Followed: Istio `extensions/v1alpha1/wasm.proto`, `traffic_extension.proto`; Higress
`extensions/v1alpha1/wasmplugin.proto`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asgi_wasm.cli.importing import higress
from asgi_wasm.cli.importing.found import Found
from asgi_wasm.fetching.names import is_remote

KINDS = {"WasmPlugin", "TrafficExtension"}
# They run in this order; within one the greater priority runs first.
_PHASES = {"AUTHN": 3, "AUTHZ": 2, "STATS": 1, "UNSPECIFIED_PHASE": 0, "UNSPECIFIED": 0, "": 0}
_POLICIES = {"FAIL_CLOSE": None, "FAIL_OPEN": "fail_open", "FAIL_RELOAD": "fail_reload"}
_WHERE = ("selector", "targetRef", "targetRefs", "match")
# With `imagePullPolicy`, which a digest leaves nothing to say to.
_KNOWN = {
    *("url", "sha256", "pluginConfig", "pluginName", "phase", "priority", "failStrategy", "vmConfig", "type"),
    *("imagePullPolicy", "imagePullSecret", "verificationKey", "lua"),
    *_WHERE,
    *higress.KEYS,
}


def read(document: Mapping[str, Any], found: Found) -> None:
    """One resource."""
    spec = document.get("spec") or {}
    if document.get("kind") == "TrafficExtension":
        spec = {**{key: value for key, value in spec.items() if key != "wasm"}, **(spec.get("wasm") or {})}
    name = (document.get("metadata") or {}).get("name") or spec.get("pluginName") or "plugin"
    if "lua" in spec:
        found.tell(f"TrafficExtension {name!r}: is written in Lua, and left out")
        return
    url = str(spec.get("url") or "")
    if url and not is_remote(url):
        # Istio's own reading.
        url = f"oci://{url}"
    is_local = url.startswith("file://")
    _tell(spec, name, found)
    entry = {
        "name": name,
        "priority": _priority(spec.get("priority") or 0),
        "file": url.removeprefix("file://") if is_local else found.remote(url, spec.get("sha256"), name),
        "sha256": spec.get("sha256"),
        "conf": higress.conf(spec, name, found),
        # `pluginName` is the name of a root context, as Istio gives it to Envoy.
        "root_id": spec.get("pluginName"),
        "env": _env(spec.get("vmConfig") or {}, name, found),
        "failure_policy": _POLICIES.get(str(spec.get("failStrategy", "FAIL_CLOSE"))),
    }
    found.phases[found.add(entry)] = _PHASES.get(str(spec.get("phase") or ""), 0)


def _priority(value: Any) -> int:
    """Raises ValueError for what is no number of 32 bits, as Istio's are."""
    number = int(value)
    if not -(2**31) <= number < 2**31:
        raise ValueError("a priority is beyond 32 bits")
    return number


def set_priorities(found: Found) -> None:
    """One number for phase and priority, whatever numbers are used within a phase."""
    plugins = [plugin for plugin in found.plugins if plugin["name"] in found.phases]
    step = 1000
    while any(2 * abs(plugin["priority"]) > step for plugin in plugins):
        step *= 10
    for plugin in plugins:
        plugin["priority"] += step * found.phases[plugin["name"]]


def _env(vm: Mapping[str, Any], name: Any, found: Found) -> dict[str, str]:
    env: dict[str, str] = {}
    for variable in vm.get("env") or ():
        if variable.get("valueFrom") == "HOST":
            found.tell(f"plugin {name!r}: env {variable.get('name')!r} comes from the host: give its value in env")
        else:
            env[str(variable.get("name"))] = str(variable.get("value", ""))
    found.tell_others(f"plugin {name!r}: vmConfig.", vm, {"env"})
    return env


def _tell(spec: Mapping[str, Any], name: Any, found: Found) -> None:
    who = f"plugin {name!r}:"
    for key in _WHERE:
        if key in spec:
            found.tell(f"{who} {key} has no counterpart here: say with routes where it runs")
    if "verificationKey" in spec:
        found.tell(f"{who} verificationKey has no counterpart here: sha256 says which file it is")
    if "imagePullSecret" in spec:
        found.tell(f"{who} imagePullSecret: 'docker login' where it runs gives its credentials")
    if str(spec.get("type", "HTTP")) not in ("HTTP", "UNSPECIFIED_PLUGIN_TYPE"):
        found.tell(f"{who} type {spec['type']!r}: plugins see HTTP alone here")
    for key, values in (("phase", _PHASES), ("failStrategy", _POLICIES)):
        if key in spec and str(spec[key]) not in values:
            found.tell(f"{who} {key} {spec[key]!r} is unknown")
    found.tell_others(f"{who} ", spec, _KNOWN)
