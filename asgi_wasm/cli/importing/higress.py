"""What Higress adds to Istio's ``WasmPlugin``: confs for some domains, routes and services.

Its controller gives them to the plugin itself, whose SDK chooses by each request (Higress
`pkg/ingress/config/ingress_config.go`); so they are carried over as the plugin reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from asgi_wasm.cli.importing.found import Found

KEYS = ("defaultConfig", "defaultConfigDisable", "matchRules")
_CONDITIONS = {"ingress": "_match_route_", "service": "_match_service_", "domain": "_match_domain_"}
_OF_RULE = {"config", "configDisable", "routeType", *_CONDITIONS}


def conf(spec: Mapping[str, Any], name: Any, found: Found) -> Any:
    """A plugin's conf, from either's keys."""
    if spec.get("pluginConfig") is not None:
        return spec["pluginConfig"]
    is_disabled = spec.get("defaultConfigDisable") is True
    default = None if is_disabled else spec.get("defaultConfig")
    rules = list(_rules(spec.get("matchRules") or (), name, found))
    if rules:
        return {**(default or {}), "_rules_": rules}
    if is_disabled:
        found.tell(
            f"plugin {name!r}: is disabled there (defaultConfigDisable, and no rule enables it): say enabled: false, or"
            " leave it out"
        )
    return default


def _rules(rules: Any, name: Any, found: Found) -> Iterator[dict[str, Any]]:
    for rule in rules:
        if rule.get("configDisable") is True:
            continue
        conditions = {ours: list(rule[key]) for key, ours in _CONDITIONS.items() if rule.get(key)}
        if "_match_route_" in conditions or "_match_service_" in conditions:
            found.tell(
                f"plugin {name!r}: matchRules by ingress and service match no request here, which has neither: write"
                " them by domain, or with routes"
            )
        found.tell_others(f"plugin {name!r}: matchRules.", rule, _OF_RULE)
        yield {**(rule.get("config") or {}), **conditions}
