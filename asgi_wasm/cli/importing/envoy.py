"""Envoy: HTTP filters and services of Wasm, wherever they stand (`envoy/extensions/wasm/v3/wasm.proto`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from asgi_wasm.cli.importing.clusters import snake_case, upstreams
from asgi_wasm.cli.importing.found import Found

HTTP_FILTER = "envoy.extensions.filters.http.wasm.v3.Wasm"
_SERVICE = "envoy.extensions.wasm.v3.WasmService"
_ELSEWHERE = {
    "envoy.extensions.filters.network.wasm.v3.Wasm": "a network filter",
    "envoy.extensions.access_loggers.wasm.v3.WasmAccessLog": "an access logger",
    "envoy.extensions.stat_sinks.wasm.v3.Wasm": "a sink of statistics",
}
# What ends a chain of filters, and has nothing to be carried over.
_LAST = ("envoy.filters.http.router", "envoy.filters.http.upstream_codec")

_OF_CLUSTER = "is a filter of calls to a cluster there; here it would see the requests of clients: leave it out"


@dataclass
class _Walk:
    """What a walk through a configuration meets."""

    # Name of the filter, its configuration, whether it is a service, and what is said of it further out.
    filters: list[tuple[str, Mapping[str, Any], bool, tuple[str, ...]]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    per_route: set[str] = field(default_factory=set)
    chains: int = 0

    def go(self, value: Any, name: str = "", notes: tuple[str, ...] = ()) -> None:
        """Everything below ``value``; ``name`` is the nearest that stands around it."""
        if isinstance(value, list):
            for item in value:
                self.go(item, name, notes)
        elif isinstance(value, Mapping):
            here = str(value.get("name") or name)
            found = _typed(value)
            if found is not None:
                self._take(here, *found, notes)
                return
            if value.get("disabled") is True:
                notes = (*notes, "is disabled there: leave it out")
            if "xds_matcher" in value or "matcher" in value:
                notes = (*notes, "its matcher has no counterpart here: say with routes, or when, where it runs")
            self.per_route |= {str(key) for key in value.get("typed_per_filter_config") or ()}
            before = len(self.filters)
            for key, item in value.items():
                of_cluster = key == "typed_extension_protocol_options"
                self.go(item, here, (*notes, _OF_CLUSTER) if of_cluster else notes)
                if key == "http_filters" and isinstance(item, list) and len(self.filters) > before:
                    self.chains += 1
                    self.left += _others(item)

    def _take(self, name: str, kind: str, config: Any, notes: tuple[str, ...]) -> None:
        if kind in _ELSEWHERE:
            self.left.append(f"plugin {name!r}: is {_ELSEWHERE[kind]}: plugins see HTTP alone here")
        else:
            self.filters.append((name, config or {}, kind == _SERVICE, notes))


def read(document: Any, found: Found) -> None:
    """One document, of any shape."""
    document = snake_case(document)
    walk = _Walk()
    walk.go(document)
    for index, (name, config, is_service, notes) in enumerate(walk.filters):
        # Envoy runs them in the order of its list.
        _add(name, config, len(walk.filters) - index, is_service, found)
        for note in notes:
            found.tell(f"plugin {config.get('name') or name!r}: {note}")
    found.left += walk.left
    if not walk.filters:
        return
    if walk.chains > 1:
        found.tell(
            f"the plugins of {walk.chains} chains of HTTP filters are one here: say with routes which runs where"
        )
    for name in sorted(walk.per_route & {name for name, *_ in walk.filters}):
        found.tell(f"filter {name!r}: typed_per_filter_config of routes has no counterpart here: say it with routes")
    if isinstance(document, Mapping) and document.get("kind") == "EnvoyFilter":
        found.tell("EnvoyFilter: what it applies to has no counterpart here: say with routes where plugins run")
    found.upstreams.update(upstreams(document, found))


def _typed(value: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Kind and configuration, where it is one of Wasm's; packed as itself, or as a ``TypedStruct``."""
    for key, config in (("@type", value.get("config")), ("type_url", (_mapping(value.get("value"))).get("config"))):
        kind = str(value.get(key, "")).rpartition("/")[2]
        if kind in (HTTP_FILTER, _SERVICE, *_ELSEWHERE) and (config is None or isinstance(config, Mapping)):
            return kind, config
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


def _add(filter_name: str, config: Mapping[str, Any], priority: int, is_service: bool, found: Found) -> None:
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
            "conf": _unpacked(config.get("configuration")),
            "root_id": config.get("root_id"),
            "vm_id": vm.get("vm_id"),
            "vm_conf": _unpacked(vm.get("configuration")),
            "env": (vm.get("environment_variables") or {}).get("key_values"),
            "failure_policy": _policy(config, name, found),
            "allow_on_headers_stop_iteration": config.get("allow_on_headers_stop_iteration"),
            "reload_config": config.get("reload_config"),
            "allowed_capabilities": sorted(capabilities) or None,
            "service": is_service or None,
        }
    )


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


def _unpacked(value: Any) -> Any:
    """What Envoy packs into an Any: the text of a StringValue, or a Struct, which plugins get as JSON."""
    if isinstance(value, Mapping) and ("@type" in value or "type_url" in value):
        if "value" in value:
            return value["value"]
        return {key: item for key, item in value.items() if key not in ("@type", "type_url")}
    return value


def _policy(config: Mapping[str, Any], name: Any, found: Found) -> str | None:
    policy = config.get("failure_policy")
    if policy in (None, "UNSPECIFIED"):
        return "fail_open" if config.get("fail_open") else None
    if str(policy).lower() not in ("fail_closed", "fail_open", "fail_reload"):
        found.tell(f"plugin {name!r}: failure_policy {policy!r} is unknown")
        return None
    return str(policy).lower()
