"""Envoy Gateway's ``EnvoyExtensionPolicy`` (`api/v1alpha1/envoyextensionpolicy_types.go`, `wasm_types.go`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asgi_wasm.cli.importing.found import Found
from asgi_wasm.fetching.names import is_remote

KIND = "EnvoyExtensionPolicy"
_OF_PLUGIN = {"name", "rootID", "code", "config", "failOpen", "env"}
_WHERE = ("targetRef", "targetRefs", "targetSelectors")


def read(document: Mapping[str, Any], found: Found) -> None:
    """One resource: its plugins run in the order of their list."""
    spec = document.get("spec") or {}
    resource = (document.get("metadata") or {}).get("name") or "plugin"
    plugins = spec.get("wasm") or ()
    for index, plugin in enumerate(plugins):
        _add(plugin, plugin.get("name") or f"{resource}-{index}", len(plugins) - index, found)
    for key in _WHERE:
        if plugins and key in spec:
            found.tell(f"{KIND} {resource!r}: {key} has no counterpart here: say with routes where its plugins run")
    found.tell_others(f"{KIND} {resource!r}: ", spec, {"wasm", *_WHERE})


def _add(plugin: Mapping[str, Any], name: str, priority: int, found: Found) -> None:
    code = plugin.get("code") or {}
    image, http = code.get("image") or {}, code.get("http") or {}
    where = str((image or http).get("url") or "")
    if image and where and not is_remote(where):
        where = f"oci://{where}"
    sha256 = (image or http).get("sha256")
    if "pullSecretRef" in image:
        found.tell(f"plugin {name!r}: pullSecretRef: 'docker login' where it runs gives its credentials")
    if (plugin.get("env") or {}).get("hostKeys"):
        found.tell(f"plugin {name!r}: env.hostKeys: give the values in env, since no plugin sees the process's")
    found.tell_others(f"plugin {name!r}: ", plugin, _OF_PLUGIN)
    # A digest leaves nothing to say to pullPolicy.
    found.tell_others(f"plugin {name!r}: code.", code, {"type", "image", "http", "pullPolicy"})
    found.tell_others(f"plugin {name!r}: code.", {**image, **http}, {"url", "sha256", "pullSecretRef"})
    found.add(
        {
            "name": name,
            "priority": priority,
            "file": found.remote(where, sha256, name),
            "sha256": sha256,
            "conf": plugin.get("config"),
            "root_id": plugin.get("rootID"),
            "failure_policy": "fail_open" if plugin.get("failOpen") else None,
        }
    )
