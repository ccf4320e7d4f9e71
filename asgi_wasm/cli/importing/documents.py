"""The documents of files, as users have them: YAML, JSON, and what Kubernetes and APISIX put around either."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from asgi_wasm.errors import SettingsError
from asgi_wasm.settings.files import decode, read_bytes, shown


def documents(path: Path) -> Iterator[Any]:
    """Of a file, unwrapped. Raises `SettingsError`."""
    name = shown(path.name)
    for document in _of_text(decode(read_bytes(path), path.name), name):
        yield from _unwrapped(document, name)


def _of_text(text: str, name: str) -> list[Any]:
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
