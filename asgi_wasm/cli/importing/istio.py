"""Istio's ``WasmPlugin`` (`extensions/v1alpha1/wasm.proto`), and that of Higress, which has it from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asgi_wasm.cli.importing.found import Found
from asgi_wasm.fetching.names import is_remote

# Istio's phases run in this order; within one the greater priority runs first.
_PHASES = {"AUTHN": 3000, "AUTHZ": 2000, "STATS": 1000, "UNSPECIFIED_PHASE": 0, "": 0}
_POLICIES = {"FAIL_CLOSE": None, "FAIL_OPEN": "fail_open", "FAIL_RELOAD": "fail_reload"}
# With `imagePullPolicy`, which a digest leaves nothing to say to.
_KNOWN = {
    *("url", "sha256", "pluginConfig", "pluginName", "phase", "priority", "failStrategy", "vmConfig", "type"),
    # That of Higress.
    "defaultConfig",
    *("imagePullPolicy", "imagePullSecret", "selector", "targetRefs", "targetRef", "match", "verificationKey"),
}


def read(document: Mapping[str, Any], found: Found) -> None:
    """One resource."""
    spec = document.get("spec") or {}
    name = spec.get("pluginName") or (document.get("metadata") or {}).get("name") or "plugin"
    url = str(spec.get("url", ""))
    if url and not is_remote(url):
        # Istio's own reading.
        url = f"oci://{url}"
    is_local = url.startswith("file://")
    _tell(spec, name, found)
    found.add(
        {
            "name": name,
            "priority": _PHASES.get(str(spec.get("phase", "")), 0) + int(spec.get("priority") or 0),
            "file": url.removeprefix("file://") if is_local else found.remote(url, spec.get("sha256"), name),
            "sha256": spec.get("sha256"),
            "conf": spec.get("pluginConfig", spec.get("defaultConfig")),
            "env": _env(spec.get("vmConfig") or {}, name, found),
            "failure_policy": _POLICIES.get(str(spec.get("failStrategy", "FAIL_CLOSE"))),
        }
    )


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
    for key in ("selector", "targetRef", "targetRefs", "match"):
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
