"""``asgi-wasm import``: our settings from those of Envoy, Istio or APISIX.

What cannot be carried over is told, one sentence each, and never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from asgi_wasm.cli import console
from asgi_wasm.cli.importing import apisix, envoy, istio
from asgi_wasm.cli.importing.found import Found
from asgi_wasm.errors import SettingsError
from asgi_wasm.settings.files import decode, read_bytes, shown

__all__ = ["import_settings"]


def import_settings(paths: Sequence[Path]) -> int:
    """Print the settings as YAML, and on standard error what is missing. Raises `SettingsError`."""
    found = Found()
    documents = [(path, number, document) for path in paths for number, document in enumerate(_documents(path), 1)]
    # APISIX has plugins in one file and routes in another, in whatever order they are given.
    documents.sort(key=lambda item: not (isinstance(item[2], Mapping) and "wasm" in item[2]))
    for path, number, document in documents:
        try:
            _read(document, found)
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            # It is somebody else's configuration, of which the shape alone is looked at.
            raise SettingsError(
                f"{shown(path.name)}: document {number} has not the shape that Envoy, Istio or APISIX reads: {error}"
            ) from None
    if not found.plugins:
        raise SettingsError(
            f"{', '.join(shown(path.name) for path in paths)}: holds no Envoy HTTP filter of type {envoy.HTTP_FILTER},"
            " no Istio WasmPlugin and no wasm section of APISIX"
        )
    apisix.tell_unrouted(found)
    settings: dict[str, Any] = {"plugins": found.plugins}
    if found.routes:
        settings["routes"] = found.routes
    if found.upstreams:
        settings["upstreams"] = found.upstreams
    print(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), end="")
    for sentence in dict.fromkeys(found.left):
        console.error(sentence)
    return 0


def _documents(path: Path) -> Iterator[Any]:
    """Of a file, and of what kubectl puts around several resources."""
    text = decode(read_bytes(path), path.name)
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except (yaml.YAMLError, RecursionError) as error:
        raise SettingsError(f"{shown(path.name)}: is no YAML: {' '.join(str(error).split())[:200]}") from None
    for document in documents:
        if isinstance(document, Mapping) and isinstance(document.get("items"), list):
            yield from document["items"]
        else:
            yield document


def _read(document: Any, found: Found) -> None:
    if isinstance(document, Mapping) and document.get("kind") == "WasmPlugin":
        istio.read(document, found)
    elif isinstance(document, Mapping) and apisix.SECTIONS & document.keys():
        apisix.read(document, found)
    else:
        envoy.read(document, found)
