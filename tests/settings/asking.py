"""Two plugins, and what tests ask of settings that were read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asgi_wasm.specs import HostSpec, PluginSpec

LIST: list[dict[str, Any]] = [
    {"name": "waf", "priority": 7, "file": "waf.wasm", "conf": {"level": 2}},
    {"name": "auth", "file": "auth.wasm", "conf": "plain text"},
]


def summary(spec: HostSpec) -> list[tuple[str, int, str, bytes | None]]:
    return [(plugin.name, plugin.priority, Path(str(plugin.file)).name, plugin.conf) for plugin in spec.plugins]


def only(spec: HostSpec) -> PluginSpec:
    (plugin,) = spec.plugins
    return plugin
