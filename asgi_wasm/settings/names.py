"""Other spellings of our keys: Envoy's, Istio's and APISIX's, so that their snippets can be pasted."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from asgi_wasm.settings.files import shown

PLUGIN = {
    "configuration": "conf",
    "plugin_config": "conf",
    "pluginConfig": "conf",
    "plugin_name": "name",
    "pluginName": "name",
    "path": "file",
    "filename": "file",
    "vm_configuration": "vm_conf",
    "rootId": "root_id",
    "vmId": "vm_id",
    "environment_variables": "env",
    "failurePolicy": "failure_policy",
    "fail_strategy": "failure_policy",
    "failStrategy": "failure_policy",
    "reloadConfig": "reload_config",
}
METRICS = {"stats_tags": "rules", "statsTags": "rules"}
TAG_RULE = {"tag_name": "tag", "tagName": "tag", "fixed_value": "value", "fixedValue": "value"}
ROUTE = {"uris": "uri", "host": "hosts"}
TOP: dict[str, str] = {}


def canonical(entry: Mapping[str, object], aliases: Mapping[str, str]) -> dict[str, object]:
    """The entry under our own keys. Raises ValueError when a key is given twice under two names."""
    result: dict[str, object] = {}
    given: dict[str, str] = {}
    for key, value in entry.items():
        ours = aliases.get(key, key)
        if ours in result:
            raise ValueError(f"{given[ours]!r} and {key!r} mean the same: keep one of them")
        result[ours], given[ours] = value, key
    return result


def no_plugin(name: str, known: list[str]) -> str:
    """What to say of a plugin that a route names and that does not exist."""
    close = get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known)) or 'none'}"
    return f"no plugin is called {shown(name)!r}; {hint}"


def unknown(key: str, known: list[str]) -> str:
    """What to say of a key that does not exist."""
    close = get_close_matches(key, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
    return f"unknown key {shown(key)!r}; {hint}"
