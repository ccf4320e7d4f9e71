"""APISIX: the ``wasm`` section of `config.yaml`; routes and global rules of `apisix.yaml`, or as its Admin API does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asgi_wasm.cli.importing.found import Found

# What tells such a file.
_SECTIONS = {"wasm", "routes", "global_rules"}
_MATCH = ("uri", "uris", "host", "hosts", "methods")
# What leads to the app, which is one here, and what only describes.
_NO_MATTER = {
    *("id", "name", "desc", "labels", "create_time", "update_time", "upstream", "upstream_id", "enable_websocket"),
    *("plugins", "status", "timeout"),
}
# They may hold plugins as well.
_ELSEWHERE = ("services", "plugin_configs", "consumers", "consumer_groups")


def is_apisix(document: Mapping[str, Any]) -> bool:
    """Whether it is a file of APISIX's, or one route or rule, as its Admin API takes it."""
    return bool(_SECTIONS & document.keys()) or isinstance(document.get("plugins"), Mapping)


def read(document: Mapping[str, Any], found: Found) -> None:
    """One file, route or rule."""
    if not _SECTIONS & document.keys():
        section = "routes" if {"uri", "uris"} & document.keys() else "global_rules"
        document = {section: [document]}
    for plugin in (document.get("wasm") or {}).get("plugins") or ():
        _plugin(plugin, found)
    for route in document.get("routes") or ():
        _route(route, found)
    for rule in document.get("global_rules") or ():
        _global(rule, found)
    for section in _ELSEWHERE:
        for item in document.get(section) or ():
            for route in item.get("routes") or ():
                _route(route, found)
            for name in (item.get("plugins") or {}).keys() & set(found.from_apisix):
                found.tell(f"{section}: plugin {name!r} runs for one of them: say with routes where it runs")


def tell_unrouted(found: Found) -> None:
    """APISIX runs a plugin where something names it; here it would run everywhere, until a route does."""
    plugins = {plugin["name"]: plugin for plugin in found.plugins}
    of_all = {name for name in found.from_apisix if "conf" in plugins[name]}
    for route in found.routes:
        # A global rule's runs there on every request, whatever routes say of it.
        kept = {name: said for name, said in route["plugins"].items() if said is not False or name not in of_all}
        found.disabled |= {name for name, said in kept.items() if said is False}
        route["plugins"] = kept
    found.routes[:] = [route for route in found.routes if route["plugins"]]
    routed = {name for route in found.routes for name, said in route["plugins"].items() if said is not False}
    for name in found.from_apisix:
        if name in routed or name in of_all:
            continue
        if name in found.disabled:
            plugins[name]["enabled"] = False
        else:
            found.tell(
                f"plugin {name!r}: no route names it, so here it runs on every request, without a conf: give it routes"
                " (also from a second file: asgi-wasm import config.yaml apisix.yaml)"
            )


def _plugin(plugin: Mapping[str, Any], found: Found) -> None:
    name = plugin.get("name")
    if plugin.get("http_request_phase"):
        found.tell(f"plugin {name!r}: http_request_phase: there is one phase here, ordered by priority")
    found.tell_others(f"plugin {name!r}: ", plugin, {"name", "priority", "file", "http_request_phase"})
    found.from_apisix.append(found.add({key: plugin[key] for key in ("name", "priority", "file") if key in plugin}))


def _route(route: Mapping[str, Any], found: Found) -> None:
    who = f"route {route.get('uri') or route.get('uris')!r}:"
    if route.get("status") == 0:
        found.tell(f"{who} is disabled (status: 0), and left out")
        return
    confs = _confs(route, who, found)
    if confs:
        found.routes.append({**{key: route[key] for key in _MATCH if key in route}, "plugins": confs})
        uris = [route.get("uri") or "", *(route.get("uris") or ())]
        if any(part.startswith(":") for uri in uris for part in str(uri).split("/")):
            found.tell(f"{who} a part with ':' stands for itself here: write /prefix/*")
    found.tell_others(f"{who} ", route, {*_MATCH, *_NO_MATTER})


def _global(rule: Mapping[str, Any], found: Found) -> None:
    for name, given in _confs(rule, f"global rule {rule.get('id')!r}:", found).items():
        if given is False:
            found.disabled.add(name)
            continue
        plugin = next(plugin for plugin in found.plugins if plugin["name"] == name)
        plugin["conf"] = given["conf"]


def _confs(item: Mapping[str, Any], who: str, found: Found) -> dict[str, Any]:
    """By plugin, of those that are of Wasm; False where it is disabled."""
    confs: dict[str, Any] = {}
    for name, given in (item.get("plugins") or {}).items():
        if name not in found.from_apisix:
            found.tell(f"{who} plugin {name!r} is none of Wasm")
            continue
        given = given or {}
        meta = given.get("_meta") or {}
        found.tell_others(f"{who} plugin {name!r}: ", given, {"conf", "_meta"})
        found.tell_others(f"{who} plugin {name!r}: _meta.", meta, {"disable"})
        confs[name] = False if meta.get("disable") is True else {"conf": given.get("conf", "")}
    return confs
