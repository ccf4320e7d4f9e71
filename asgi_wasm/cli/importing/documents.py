"""The documents of files, as users have them: YAML, JSON, and what Kubernetes and APISIX put around either."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from asgi_wasm.errors import SettingsError
from asgi_wasm.settings.files import decode, read_bytes, shown

# Far beyond what anybody configures. A few lines of YAML with aliases of aliases stand for billions of values.
_MOST_VALUES = 1_000_000
_DEEPEST = 100
_MOST_BITS = 1024


def documents(path: Path) -> list[Any]:
    """Of a file, unwrapped. Raises `SettingsError`."""
    name = shown(path.name)
    try:
        return [
            each
            for document in _of_text(decode(read_bytes(path), path.name), name)
            for each in _unwrapped(document, name)
        ]
    except RecursionError:
        raise SettingsError(f"{name}: has too many ConfigMaps in each other") from None


def _of_text(text: str, name: str) -> list[Any]:
    given = _parsed(text, name)
    try:
        _measure(given, {})
    except ValueError as error:
        raise SettingsError(f"{name}: {error}: import the part of it that has the plugins") from None
    return given


def _measure(value: Any, known: dict[int, tuple[int, int]], depth: int = 0) -> tuple[int, int]:
    """How many values there are, an alias's each time, and how deep. Raises ValueError for too many or too deep."""
    if not isinstance(value, (Mapping, list, tuple)):
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise ValueError(f"has a number of more than {_MOST_BITS} bits")
        return 1, 0
    if id(value) in known:
        return known[id(value)]
    # What an alias leads around to itself has no end.
    if depth > _DEEPEST:
        raise ValueError("is nested too deeply")
    parts = [_measure(item, known, depth + 1) for item in (value.values() if isinstance(value, Mapping) else value)]
    size, height = 1 + sum(each[0] for each in parts), 1 + max((each[1] for each in parts), default=0)
    if height > _DEEPEST:
        raise ValueError("is nested too deeply")
    if size > _MOST_VALUES:
        raise ValueError(f"has more than {_MOST_VALUES:,} values")
    known[id(value)] = size, height
    return size, height


def _parsed(text: str, name: str) -> list[Any]:
    try:
        # First, since JSON that is indented by tabs, as Envoy's config_dump may be, is no YAML.
        return [json.loads(text)]
    except (ValueError, RecursionError):
        pass
    try:
        return [document for document in yaml.safe_load_all(text) if document is not None]
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if "{{" in text or "{%" in text:
            raise SettingsError(
                f"{name}: is a template: render it first, as by 'helm template', and import what comes out"
            ) from None
        raise SettingsError(f"{name}: is no YAML: {' '.join(str(error).split())[:200]}") from None


def _unwrapped(document: Any, name: str) -> Iterator[Any]:
    """The items of kubectl's lists, the files of a ConfigMap, and the values of APISIX's Admin API."""
    if not isinstance(document, Mapping):
        yield document
    elif isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _unwrapped(item, name)
    elif isinstance(document.get("list"), list):
        for item in document["list"]:
            yield from _unwrapped(item, name)
    elif "key" in document and isinstance(document.get("value"), Mapping):
        yield document["value"]
    elif document.get("kind") == "ConfigMap":
        for key, text in (document.get("data") or {}).items():
            # Files of any kind may stand in it.
            if isinstance(text, str) and "wasm" in text:
                for each in _of_text(text, f"{name}: ConfigMap's {shown(key)}"):
                    yield from _unwrapped(each, name)
    else:
        yield document
