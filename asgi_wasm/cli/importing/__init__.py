"""``asgi-wasm import``: our settings from those of Envoy, Envoy Gateway, Istio, Higress or APISIX.

What cannot be carried over is told, one sentence each, and never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from asgi_wasm.cli import console
from asgi_wasm.cli.importing import apisix, envoy, gateway, istio
from asgi_wasm.cli.importing.documents import documents
from asgi_wasm.cli.importing.found import Found
from asgi_wasm.errors import SettingsError
from asgi_wasm.settings import load
from asgi_wasm.settings.files import shown

__all__ = ["import_settings"]


def import_settings(paths: Sequence[Path]) -> int:
    """Print the settings as YAML, and on standard error what is missing. Raises `SettingsError`.

    The exit status is 1 where they are refused as they stand.
    """
    found = Found()
    given = [(path, number, document) for path in paths for number, document in enumerate(documents(path), 1)]
    # APISIX has plugins in one file and routes in another, in whatever order they are given.
    given.sort(key=lambda item: not (isinstance(item[2], Mapping) and "wasm" in item[2]))
    for path, number, document in given:
        try:
            _read(document, found)
        except (AttributeError, TypeError, ValueError, KeyError, OverflowError) as error:
            # It is somebody else's configuration, of which the shape alone is looked at.
            raise SettingsError(
                f"{shown(path.name)}: document {number} has not the shape that Envoy, Istio or APISIX reads: {error}"
            ) from None
    if not found.plugins:
        raise SettingsError(f"{', '.join(shown(path.name) for path in paths)}: {_no_plugins(found)}")
    istio.set_priorities(found)
    apisix.tell_unrouted(found)
    settings: dict[str, Any] = {"plugins": found.plugins}
    if found.routes:
        settings["routes"] = found.routes
    if found.upstreams:
        settings["upstreams"] = found.upstreams
    print(yaml.dump(settings, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120), end="")
    for sentence in dict.fromkeys(found.left):
        console.error(sentence)
    return _check(settings)


def _no_plugins(found: Found) -> str:
    if found.left:
        return f"holds no plugin that can be carried over: {'; '.join(dict.fromkeys(found.left))}"
    return (
        f"holds no Envoy HTTP filter of type {envoy.HTTP_FILTER}, no Istio WasmPlugin, no EnvoyExtensionPolicy with"
        " wasm, and no wasm section of APISIX"
    )


def _check(settings: Mapping[str, Any]) -> int:
    """What was wrong there is wrong here."""
    try:
        load(settings)
    except SettingsError as error:
        for mistake in str(error).splitlines():
            console.error(f"refused as it stands: {mistake.removeprefix('argument settings: ')}")
        return 1
    return 0


def _read(document: Any, found: Found) -> None:
    kind = document.get("kind") if isinstance(document, Mapping) else None
    if kind in istio.KINDS:
        istio.read(document, found)
    elif kind == gateway.KIND:
        gateway.read(document, found)
    elif isinstance(document, Mapping) and apisix.is_apisix(document):
        apisix.read(document, found)
    else:
        envoy.read(document, found)


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as such: a plugin's conf is often a file of its own."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
