"""Envoy: HTTP filters and services of Wasm, wherever they stand (`envoy/extensions/wasm/v3/wasm.proto`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from asgi_wasm.cli.importing.clusters import snake_case, upstreams
from asgi_wasm.cli.importing.found import Found
from asgi_wasm.cli.importing.per_route import kept_off
from asgi_wasm.settings.nested import unpacked

HTTP_FILTER = "envoy.extensions.filters.http.wasm.v3.Wasm"
# The same before it was in Envoy's own repository, as older Istios and examples have it.
_OLD_FILTER = "envoy.config.filter.http.wasm.v2.Wasm"
_OLD_NAME = "envoy.filters.http.wasm"
_SERVICE = "envoy.extensions.wasm.v3.WasmService"
_ELSEWHERE = {
    "envoy.extensions.filters.network.wasm.v3.Wasm": "a network filter",
    "envoy.extensions.access_loggers.wasm.v3.WasmAccessLog": "an access logger",
    "envoy.extensions.stat_sinks.wasm.v3.Wasm": "a sink of statistics",
}
# What ends a chain of filters, and has nothing to be carried over.
_LAST = ("envoy.filters.http.router", "envoy.filters.http.upstream_codec")

_OF_CLUSTER = "is a filter of calls to a cluster there; here it would see the requests of clients: leave it out"


@dataclass(frozen=True)
class _Place:
    """What stands around a value: the nearest name, what is said of what is in it, the chain of filters, and whether
    it is off.
    """

    name: str = ""
    notes: tuple[str, ...] = ()
    chain: int = 0
    off: bool = False

    def noting(self, note: str) -> _Place:
        return replace(self, notes=(*self.notes, note))


@dataclass
class _Walk:
    """What a walk through a configuration meets."""

    # Where a filter stands, its configuration, and whether it is a service.
    filters: list[tuple[_Place, Mapping[str, Any], bool]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    per_route: set[str] = field(default_factory=set)
    chains: int = 0

    def go(self, value: Any, place: _Place = _Place()) -> None:
        """Everything below ``value``."""
        if isinstance(value, list):
            for item in value:
                self.go(item, place)
        elif isinstance(value, Mapping):
            place = replace(place, name=str(value.get("name") or place.name))
            found = _typed(value)
            if found is not None:
                self._take(place, *found)
                return
            self._below(value, self._noted(value, place))

    def _noted(self, value: Mapping[str, Any], place: _Place) -> _Place:
        if value.get("disabled") is True:
            place = replace(place, off=True)
        if "xds_matcher" in value or "matcher" in value:
            place = place.noting("its matcher has no counterpart here: say with routes, or when, where it runs")
        if _is_discovered(value):
            self.left.append(f"plugin {place.name!r}: its configuration is discovered (ECDS): import that resource")
        self.per_route |= {str(key) for key in value.get("typed_per_filter_config") or ()}
        return place

    def _below(self, value: Mapping[str, Any], place: _Place) -> None:
        for key, item in value.items():
            before = len(self.filters)
            inner = place.noting(_OF_CLUSTER) if key == "typed_extension_protocol_options" else place
            is_chain = key == "http_filters" and isinstance(item, list)
            self.go(item, replace(inner, chain=self.chains + 1) if is_chain else inner)
            if is_chain and len(self.filters) > before:
                self.chains += 1
                self.left += _others(item)

    def _take(self, place: _Place, kind: str, config: Any) -> None:
        if kind in _ELSEWHERE:
            self.left.append(f"plugin {place.name!r}: is {_ELSEWHERE[kind]}: plugins see HTTP alone here")
        else:
            self.filters.append((place, config or {}, kind == _SERVICE))

    def once(self) -> list[tuple[_Place, Mapping[str, Any], bool]]:
        """The filters, without those that another chain has too: each listener brings its own there."""
        kept: list[tuple[_Place, Mapping[str, Any], bool]] = []
        for place, config, is_service in self.filters:
            for index, (there, other, service) in enumerate(kept):
                same = (config, place.name, is_service) == (other, there.name, service)
                if same and place.chain != there.chain:
                    # Of a chain where it is disabled, or of a cluster's, nothing is to be said if it runs elsewhere.
                    kept[index] = (min(there, place, key=lambda each: len(each.notes) + each.off), other, service)
                    break
            else:
                kept.append((place, config, is_service))
        return kept


def read(document: Any, found: Found) -> None:
    """One document, of any shape."""
    document = snake_case(document)
    walk = _Walk()
    walk.go(document)
    filters = walk.once()
    names: dict[str, list[str]] = {}
    for index, (place, config, is_service) in enumerate(filters):
        # Envoy runs them in the order of its list.
        added = _add(place.name, config, len(filters) - index, is_service, found)
        names.setdefault(place.name, []).append(added["name"])
        if place.off:
            added["enabled"] = False
        for note in place.notes:
            found.tell(f"plugin {config.get('name') or place.name!r}: {note}")
    found.left += walk.left
    if not filters:
        return
    if walk.chains > 1:
        found.tell(
            f"the plugins of {walk.chains} chains of HTTP filters are one here: say with routes which runs where"
        )
    for name in sorted(walk.per_route & names.keys()):
        _keep_off(document, name, names[name], found)
    if isinstance(document, Mapping) and document.get("kind") == "EnvoyFilter":
        found.tell("EnvoyFilter: what it applies to has no counterpart here: say with routes where plugins run")
    found.upstreams.update(upstreams(document, found))


def _keep_off(document: Any, filter_name: str, plugins: Sequence[str], found: Found) -> None:
    """Routes on which the plugins that this filter has become do not run."""
    matches = kept_off(document, filter_name)
    if matches is None:
        found.tell(
            f"filter {filter_name!r}: its typed_per_filter_config cannot be said by one route here as it is there: say"
            f" it with routes, and {plugins[0]}: false in those where it is disabled"
        )
        return
    for match in matches:
        found.keep_off(match, plugins)


def _is_discovered(value: Mapping[str, Any]) -> bool:
    """Whether a filter is named here alone (`envoy/config/core/v3/config_source.proto`, `ExtensionConfigSource`)."""
    discovery = _mapping(value.get("config_discovery"))
    kinds = [str(kind).rpartition("/")[2] for kind in discovery.get("type_urls") or ()]
    return HTTP_FILTER in kinds and "default_config" not in discovery


def _typed(value: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Kind and configuration, where it is one of Wasm's; packed as itself, or as a ``TypedStruct``."""
    for key, config in (("@type", value.get("config")), ("type_url", _mapping(value.get("value")).get("config"))):
        kind = str(value.get(key, "")).rpartition("/")[2].replace(_OLD_FILTER, HTTP_FILTER)
        if kind in (HTTP_FILTER, _SERVICE, *_ELSEWHERE) and (config is None or isinstance(config, Mapping)):
            return kind, config
    config = _mapping(_mapping(value.get("config")).get("config"))
    if value.get("name") == _OLD_NAME and "vm_config" in config:
        return HTTP_FILTER, config
    return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _others(filters: list[Any]) -> Iterator[str]:
    """Filters of a chain that are none of Wasm, but for the last, which leads to the app."""
    for item in filters:
        walk = _Walk()
        walk.go(item)
        name = _mapping(item).get("name")
        if not walk.filters and not walk.left and name not in _LAST:
            yield f"HTTP filter {name!r} is none of Wasm"


_OF_PLUGIN = {
    *("name", "root_id", "vm_config", "configuration", "fail_open", "failure_policy", "reload_config"),
    *("capability_restriction_config", "allow_on_headers_stop_iteration"),
}
# `engine` and the cache stand for `runtime` and `allow_precompiled`.
_OF_VM = {"vm_id", "runtime", "code", "configuration", "allow_precompiled", "environment_variables"}


def _add(filter_name: str, config: Mapping[str, Any], priority: int, is_service: bool, found: Found) -> dict[str, Any]:
    """The plugin, as it was added."""
    vm = config.get("vm_config") or {}
    name = config.get("name") or filter_name
    code = vm.get("code") or {}
    capabilities = (config.get("capability_restriction_config") or {}).get("allowed_capabilities") or {}
    found.tell_others(f"plugin {name!r}: ", config, _OF_PLUGIN)
    found.tell_others(f"plugin {name!r}: vm_config.", vm, _OF_VM)
    if (vm.get("environment_variables") or {}).get("host_env_keys"):
        found.tell(f"plugin {name!r}: host_env_keys: give the values in env, since no plugin sees the process's")
    found.add(
        {
            "name": name,
            "priority": priority,
            "file": _file(code, vm.get("runtime"), name, found),
            "sha256": (code.get("remote") or {}).get("sha256"),
            "conf": unpacked(config.get("configuration")),
            "root_id": config.get("root_id"),
            "vm_id": vm.get("vm_id"),
            "vm_conf": unpacked(vm.get("configuration")),
            "env": (vm.get("environment_variables") or {}).get("key_values"),
            "failure_policy": _policy(config, name, found),
            "allow_on_headers_stop_iteration": config.get("allow_on_headers_stop_iteration"),
            "reload_config": config.get("reload_config"),
            "allowed_capabilities": sorted(capabilities) or None,
            "service": is_service or None,
        }
    )
    return found.plugins[-1]


def _file(code: Mapping[str, Any], runtime: Any, name: Any, found: Found) -> str:
    local = code.get("local") or {}
    if "filename" in local:
        return str(local["filename"])
    if runtime == "envoy.wasm.runtime.null":
        found.tell(
            f"plugin {name!r}: is compiled into Envoy (its runtime is null): leave it out, or give its .wasm file"
        )
        return f"{name}.wasm"
    remote = code.get("remote") or {}
    uri = remote.get("http_uri") or {}
    if "timeout" in uri:
        found.tell(f"plugin {name!r}: http_uri.timeout: the setting fetch_timeout is that of all plugins")
    found.tell_others(f"plugin {name!r}: code.remote.", remote, {"http_uri", "sha256"})
    return found.remote(str(uri.get("uri") or ""), remote.get("sha256"), name)


def _policy(config: Mapping[str, Any], name: Any, found: Found) -> str | None:
    policy = config.get("failure_policy")
    if policy in (None, "UNSPECIFIED"):
        return "fail_open" if config.get("fail_open") else None
    if str(policy).lower() not in ("fail_closed", "fail_open", "fail_reload"):
        found.tell(f"plugin {name!r}: failure_policy {policy!r} is unknown")
        return None
    return str(policy).lower()
