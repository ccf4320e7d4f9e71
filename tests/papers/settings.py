"""The papers of the settings, from the pydantic models: a table of every key, and a JSON Schema."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from asgi_wasm import limits as bounds
from asgi_wasm.settings import Limits, Metrics, Plugin, PluginLimits, Route, RoutePlugin, Settings, TagRule, Upstream
from asgi_wasm.settings.models import Backoff
from asgi_wasm.specs import FailurePolicy
from tests.papers.blocks import SETTINGS, table

SCHEMA = SETTINGS.with_name("schema.json")
_FOLDER = SETTINGS.parent
# Table -> the models in it, each with what its keys stand behind.
TABLES: dict[str, tuple[tuple[str, type[BaseModel]], ...]] = {
    "top": (("", Settings),),
    "plugins": (("plugins[].", Plugin), ("plugins[].reload_config.backoff.", Backoff)),
    "routes": (("routes[].", Route), ("routes[].plugins.NAME.", RoutePlugin)),
    "upstreams": (("upstreams.NAME.", Upstream),),
    "metrics": (("metrics.", Metrics), ("metrics.rules[].", TagRule)),
    "limits of a plugin": (("limits.", PluginLimits),),
    "limits of the host": (("limits.", Limits),),
}
# What pydantic says in fewer words than a reader needs.
_TYPES = {
    "conf": "text, or anything that JSON can say",
    "vm_conf": "text, or anything that JSON can say",
    "failure_policy": ", ".join(f"`{policy.value}`" for policy in FailurePolicy),
    "verify": "true, false or path",
    "metrics": "true, false or mapping",
    "uri": "text or list of texts",
    "hosts": "text or list of texts",
    "methods": "text or list of texts",
}
_KINDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def docs(model: type[BaseModel]) -> dict[str, str]:
    """What the class says below each of its fields. Python drops such texts, so its source is read."""
    found: dict[str, str] = {}
    path = Path(str(__import__(model.__module__, fromlist=["_"]).__file__))
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name == model.__name__:
            for field, text in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    found[field.target.id] = _text(text)
    return {name: text for name, text in found.items() if text}


def _text(node: ast.stmt) -> str:
    value = node.value if isinstance(node, ast.Expr) else None
    return " ".join(str(value.value).split()) if isinstance(value, ast.Constant) else ""


def own_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields that the class itself declares."""
    inherited = {name for base in model.__bases__ if issubclass(base, BaseModel) for name in base.model_fields}
    return {name: field for name, field in model.model_fields.items() if name not in inherited}


def defaults() -> dict[str, Any]:
    """Of limits, which are None in the models: what the specs have."""
    found = {field.name: field.default for spec in _LIMIT_SPECS for field in fields(spec)}
    return {**found, "call_response": bounds.DEFAULT_CALL_RESPONSE_LIMIT, "stack": bounds.DEFAULT_STACK_LIMIT}


_LIMIT_SPECS = (bounds.PluginLimits, bounds.StoreLimits, bounds.StreamLimits)


def rows(name: str) -> Iterator[list[str]]:
    """One row a key: key, type, default, meaning."""
    schema = Settings.model_json_schema()["$defs"]
    for prefix, model in TABLES[name]:
        texts = docs(model)
        shown = Settings.model_json_schema() if model is Settings else schema[model.__name__]
        for key, field in own_fields(model).items():
            kind = _TYPES.get(key) if issubclass(model, (Plugin, Upstream, Route, RoutePlugin, Settings)) else None
            yield [f"`{prefix}{key}`", kind or _type(shown["properties"][key]), _default(model, key, field), texts[key]]


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if "$ref" in schema:
        referred = Settings.model_json_schema()["$defs"][schema["$ref"].rpartition("/")[2]]
        return _type(referred) if "enum" in referred else "mapping"
    if "anyOf" in schema:
        kinds = [_type(one) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if schema.get("type") == "array":
        inner = schema["items"]
        return "list" if "$ref" in inner else f"list of {_type(inner)}s"
    if schema.get("type") == "object":
        return "mapping"
    return "path" if schema.get("format") == "path" else _KINDS[schema["type"]]


def _default(model: type[BaseModel], key: str, field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = defaults()[key] if issubclass(model, PluginLimits) else field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or value in (None, "", b"", [], {}):
        return {"metrics": "false"}.get(key, "")
    if isinstance(value, list):
        return "Envoy's"
    if isinstance(value, Enum):
        return f"`{value.value}`"
    if isinstance(value, bool):
        return str(value).lower()
    return _amount(value) if isinstance(value, (int, float)) else f"`{value}`"


def _amount(value: float) -> str:
    for size, unit in _SIZES:
        if value >= 1 << 16 and value % size == 0:
            return f"{int(value) // size} {unit}"
    return f"{int(value):,}" if value == int(value) else str(value)


def settings_table(name: str) -> str:
    """The Markdown of one block."""
    return table(["key", "type", "default", "meaning"], list(rows(name)))


def schema_text() -> str:
    """The JSON Schema of a settings file, as text."""
    from tests.papers.schema import settings_schema

    return json.dumps(settings_schema(), indent=2, ensure_ascii=False) + "\n"
