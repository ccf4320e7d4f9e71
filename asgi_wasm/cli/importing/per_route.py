"""Envoy: where routes keep a filter off (`FilterConfig.disabled`, `envoy/config/route/v3/route_components.proto`).

Envoy takes the first route that matches, here the most specific one wins, and what a guard is kept off by mistake is
open: so what is not surely the same in both is left to whoever imports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_LEVEL = "typed_per_filter_config"
# What says nothing of which requests a route is for.
_PATHS = {"prefix", "path", "path_separated_prefix", "case_sensitive"}


def configurations(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every configuration of routes below ``value``."""
    if isinstance(value, list):
        for item in value:
            yield from configurations(item)
    elif isinstance(value, Mapping):
        if isinstance(value.get("virtual_hosts"), list):
            yield value
        for item in value.values():
            yield from configurations(item)


def kept_off(document: Any, name: str) -> list[dict[str, Any]] | None:
    """What our routes match on which the filter does not run there; None where they cannot say it."""
    found = [each for each in configurations(document) if _mentions(each, name)]
    if len(found) != 1 or len(found[0]["virtual_hosts"]) != 1:
        return None
    (configuration,) = found
    (host,) = configuration["virtual_hosts"]
    domains = [str(domain) for domain in host.get("domains") or ("*",)]
    if any("*" in domain[1:] or ":" in domain for domain in domains):
        return None
    uris = _uris(host, name, _is_off(host, name, _is_off(configuration, name, False)))
    if uris is None:
        return None
    hosts = {} if "*" in domains else {"hosts": domains}
    return [{"uri": uri, **hosts} for uri in uris]


def _mentions(value: Any, name: str) -> bool:
    if isinstance(value, list):
        return any(_mentions(item, name) for item in value)
    return isinstance(value, Mapping) and (
        name in (value.get(_LEVEL) or ()) or any(_mentions(item, name) for item in value.values())
    )


def _is_off(level: Mapping[str, Any], name: str, otherwise: bool | None) -> bool | None:
    """Whether it is off at this level of three; None where more than that is said of it."""
    said = (level.get(_LEVEL) or {}).get(name)
    if said is None:
        return otherwise
    return said.get("disabled") is True if said.keys() <= {"@type", "disabled", "is_optional"} else None


def _uris(host: Mapping[str, Any], name: str, off: bool | None) -> list[str] | None:
    """Those of the routes where it is off, and of no other."""
    kept: list[str] = []
    earlier: list[str | None] = []
    for route in host.get("routes") or ({"match": {"prefix": "/"}},):
        uri, is_off = _uri(route.get("match") or {}), _is_off(route, name, off)
        if is_off is None:
            return None
        if is_off and not any(each is not None and _covers(each, uri or "") for each in earlier):
            # One that comes first, and is inside of it, would have to win.
            if uri is None or any(each is None or _covers(uri, each) for each in earlier):
                return None
            kept.append(uri)
        if not is_off or uri not in kept:
            earlier.append(uri)
    return kept


def _uri(match: Mapping[str, Any]) -> str | None:
    """The path as our routes have it; None where there is more to it."""
    if (
        match.keys() - _PATHS
        or match.get("case_sensitive") is False
        or any("*" in str(path) for path in match.values())
    ):
        return None
    if "path" in match:
        return str(match["path"])
    # `/folder/*` is about `/folder`, too, and so is the other prefix there.
    return f"{match['path_separated_prefix']}/*" if "path_separated_prefix" in match else _beginning(match["prefix"])


def _beginning(prefix: str) -> str | None:
    return f"{prefix}*" if prefix == "/" or not prefix.endswith("/") else None


def _covers(wide: str, narrow: str) -> bool:
    return wide == narrow or (wide.endswith("*") and f"{narrow.removesuffix('*')}/".startswith(wide[:-1]))
