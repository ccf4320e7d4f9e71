"""Envoy: clusters, as the upstreams that plugins may call; and the two spellings of its keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from asgi_wasm.cli.importing.found import Found

_CAMEL = re.compile(r"[a-z][a-z0-9]*(?:[A-Z][a-z0-9]*)+")
# What is below these is not Envoy's own: texts that plugins get, and names that users choose.
_NOT_ENVOYS = {"configuration", "key_values", "keyValues", "allowed_capabilities", "allowedCapabilities", "metadata"}
# Below these stand such names, and Envoy's own below them.
_NAMES = {"typed_per_filter_config", "typedPerFilterConfig"}


def snake_case(value: Any) -> Any:
    """The same with ``vm_config`` for ``vmConfig``, as protobuf's JSON also has it."""
    if isinstance(value, list):
        return [snake_case(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {_snake(key) if isinstance(key, str) else key: _below(key, item) for key, item in value.items()}


def _below(key: Any, item: Any) -> Any:
    if key in _NAMES and isinstance(item, Mapping):
        return {name: snake_case(each) for name, each in item.items()}
    return item if key in _NOT_ENVOYS else snake_case(item)


def _snake(key: str) -> str:
    return re.sub(r"([A-Z])", r"_\1", key).lower() if _CAMEL.fullmatch(key) else key


def upstreams(document: Any, found: Found) -> dict[str, Any]:
    """Clusters that plugins may call: which of them they do call, nobody can tell."""
    resources = document.get("static_resources") if isinstance(document, Mapping) else None
    clusters = (resources or {}).get("clusters") if isinstance(resources, Mapping) else None
    made: dict[str, Any] = {}
    for cluster in clusters or ():
        name = str(cluster.get("name", ""))
        addresses = list(_addresses(cluster.get("load_assignment")))
        if not addresses:
            found.tell(f"cluster {name!r}: has no address of its own: name its URL under upstreams if plugins call it")
            continue
        if len(addresses) > 1:
            found.tell(f"cluster {name!r}: the first of its {len(addresses)} addresses is taken: there is one here")
        socket = cluster.get("transport_socket") or {}
        if (socket.get("typed_config") or {}).keys() - {"@type"}:
            found.tell(
                f"cluster {name!r}: the options of its TLS have no counterpart here, but for upstreams.NAME.verify"
            )
        url = f"{'https' if socket else 'http'}://{addresses[0][0]}:{addresses[0][1]}"
        made[name] = {"url": url, "http2": True} if _names(cluster, "http2_protocol_options") else url
    return made


def _names(value: Any, wanted: str) -> bool:
    """Whether a key is somewhere below."""
    if isinstance(value, list):
        return any(_names(item, wanted) for item in value)
    return isinstance(value, Mapping) and (wanted in value or any(_names(item, wanted) for item in value.values()))


def _addresses(value: Any) -> Iterator[tuple[str, int]]:
    if isinstance(value, list):
        for item in value:
            yield from _addresses(item)
    elif isinstance(value, Mapping):
        socket = value.get("socket_address")
        if isinstance(socket, Mapping):
            # A port may have a name there, or be a placeholder that a script replaces.
            if str(socket.get("port_value", "")).isdecimal():
                yield str(socket.get("address")), int(socket["port_value"])
        else:
            for item in value.values():
                yield from _addresses(item)
