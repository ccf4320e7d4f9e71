"""A JSON Schema of settings files: pydantic's, and what `settings.merge` and the validators take besides."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from asgi_wasm.settings import (
    Limits,
    Metrics,
    Plugin,
    PluginLimits,
    Route,
    RoutePlugin,
    Settings,
    TagRule,
    Upstream,
    names,
)
from asgi_wasm.settings.models import Backoff, ReloadConfig
from tests.papers.settings import defaults, docs

Schema = dict[str, Any]

_MODELS: tuple[type[BaseModel], ...] = (
    *(Backoff, Limits, Metrics, Plugin, PluginLimits, ReloadConfig, Route, RoutePlugin, TagRule, Upstream),
)
_ALIASES = {"Plugin": names.PLUGIN, "Metrics": names.METRICS, "TagRule": names.TAG_RULE, "Route": names.ROUTE}
# As pydantic writes bounds of numbers that may be left out.
_BOUNDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}
_DEFAULT_ROUTE: Schema = {"enum": ["allow", "deny"]}


def settings_schema() -> Schema:
    """Draft 7, which editors know best. It takes whatever a start takes of one file; not all that it takes is right."""
    whole: Schema = _plain(Settings.model_json_schema())
    parts: Schema = whole["$defs"]
    for model in _MODELS:
        _describe(parts[model.__name__], model)
    _describe(whole, Settings)
    for name, aliases in _ALIASES.items():
        properties = parts[name]["properties"]
        properties.update({other: properties[ours] for other, ours in aliases.items()})
    _loosen(parts, whole["properties"])
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "asgi-wasm.yaml",
        "description": "Settings of asgi-wasm; made from the models by `make papers`.",
        "type": "object",
        "additionalProperties": False,
        "properties": whole["properties"],
        "$defs": {name: parts[name] for name in sorted(parts)},
    }


def _plain(schema: Any) -> Any:
    """Without titles, and with the words for bounds that the draft has."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        _BOUNDS.get(key, key): value for key, value in schema.items() if not (key == "title" and isinstance(value, str))
    }
    return {key: _plain(value) for key, value in kept.items()}


def _describe(schema: Schema, model: type[BaseModel]) -> None:
    for key, text in docs(model).items():
        schema["properties"][key]["description"] = text
    if issubclass(model, PluginLimits):
        known = defaults()
        inherited = docs(PluginLimits)
        for key, one in schema["properties"].items():
            one["default"] = known[key]
            one.setdefault("description", inherited.get(key, ""))


def _loosen(parts: Schema, top: Schema) -> None:
    plugin = parts["Plugin"]["properties"]
    policies = [word for value in parts["FailurePolicy"]["enum"] for word in (value, value.upper())]
    parts["FailurePolicy"]["enum"] = [*policies, "fail_close", "FAIL_CLOSE"]
    parts["EscapedSlashes"]["enum"] += [word.upper() for word in parts["EscapedSlashes"]["enum"]]
    # Envoy's older word, and another source may say the rest of a plugin.
    plugin["fail_open"] = {"type": "boolean", "description": "Envoy's older word for `failure_policy`."}
    for key in ("vm_config", "vmConfig", "capability_restriction_config", "capabilityRestrictionConfig"):
        plugin[key] = {"type": "object", "description": "Envoy's or Istio's nested keys, in place of the flat ones."}
    parts["Plugin"].pop("required")
    plugin["file"] = {"type": "string", "description": plugin["file"]["description"]}
    parts["Backoff"]["properties"]["base_interval"]["type"] = ["number", "string"]
    parts["Route"].pop("required")
    for key in ("uri", "uris", "hosts", "host", "methods"):
        one = parts["Route"]["properties"][key]
        parts["Route"]["properties"][key] = {"description": one["description"], "anyOf": [_TEXT, _TEXTS]}
    parts["Route"]["properties"]["plugins"]["additionalProperties"] = {
        "anyOf": [{"type": "boolean"}, _ref("RoutePlugin")]
    }
    parts["Upstream"].pop("required")
    top["upstreams"]["additionalProperties"] = {"anyOf": [_TEXT, {"$ref": "#/$defs/Upstream"}]}
    top["metrics"] = {"description": top["metrics"]["description"], "anyOf": [{"type": "boolean"}, _ref("Metrics")]}
    top["plugins"] = {**_kept(top["plugins"]), "anyOf": [_list(_ref("Plugin")), _by_name(_ref("Plugin"))]}
    route = {"anyOf": [_ref("Route"), {"properties": {"default": _DEFAULT_ROUTE}, "additionalProperties": False}]}
    named = {**_by_name(_ref("Route")), "properties": {"default": _DEFAULT_ROUTE}}
    top["routes"] = {**_kept(top["routes"]), "anyOf": [_list(route), named]}
    for key in ("resident", "accelerator"):
        # YAML reads a bare `off` as false.
        top[key]["enum"].append(False)
        top[key].pop("type", None)
    top["wasm"] = {
        "description": "APISIX's own place for `plugins`.",
        "type": "object",
        "additionalProperties": False,
        "properties": {"plugins": top["plugins"]},
    }


_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT, "minItems": 1}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _by_name(value: Schema) -> Schema:
    return {"type": "object", "additionalProperties": value}


def _kept(schema: Schema) -> Schema:
    return {"description": schema["description"]}
