"""Routes of Envoy that keep a filter off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.importing import imported

OFF = {"typedPerFilterConfig": {"myGuard": {"@type": "x/envoy.config.route.v3.FilterConfig", "disabled": True}}}
ON = {"typedPerFilterConfig": {"myGuard": {"disabled": False}}}
FILTER = {
    "name": "myGuard",
    "typedConfig": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {"name": "guard", "vmConfig": {"code": {"local": {"filename": "/g.wasm"}}}},
    },
}


def route(off: dict[str, Any] | None = None, **match: Any) -> dict[str, Any]:
    return {"match": match, "route": {"cluster": "app"}, **(off or {})}


def manager(*hosts: dict[str, Any]) -> dict[str, Any]:
    return {"httpFilters": [FILTER], "routeConfig": {"virtualHosts": list(hosts)}}


def host(*routes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"domains": ["*"], "routes": list(routes), **more}


@pytest.mark.parametrize(
    ("given", "routes"),
    [
        (host(route(OFF, path="/health"), route(prefix="/")), [{"uri": "/health"}]),
        (host(route(OFF, prefix="/pub"), route(prefix="/")), [{"uri": "/pub*"}]),
        (host(route(OFF, pathSeparatedPrefix="/pub"), route(prefix="/")), [{"uri": "/pub/*"}]),
        (host(route(OFF, path="/a"), route(OFF, path="/b")), [{"uri": "/a"}, {"uri": "/b"}]),
        # What is not off, and what comes first and is not inside of it.
        (host(route(ON, prefix="/"), **OFF), []),
        (host(route(path="/c"), route(OFF, prefix="/d"), route(prefix="/d/e")), [{"uri": "/d*"}]),
        (host(route(prefix="/"), route(OFF, path="/never")), []),
        # All of a host, and of some names.
        (host(route(prefix="/"), **OFF), [{"uri": "/*"}]),
        (
            {"domains": ["a.test", "*.b.test"], "routes": [route(OFF, path="/x")]},
            [{"uri": "/x", "hosts": ["a.test", "*.b.test"]}],
        ),
    ],
)
def test_routes_on_which_a_filter_is_disabled(tmp_path: Path, given: Any, routes: Any) -> None:
    settings, left = imported(tmp_path, yaml.safe_dump(manager(given)))
    assert settings.get("routes", []) == [{**each, "plugins": {"guard": False}} for each in routes]
    assert left == ""


@pytest.mark.parametrize(
    "hosts",
    [
        # A guard would be off where it is on there: of two routes the more specific one, or the first.
        [host(route(path="/pub/admin"), route(OFF, prefix="/pub"))],
        [host(route(safeRegex={"regex": "/a.*"}), route(OFF, prefix="/ab"))],
        [host(route(OFF, prefix="/pub/"))],
        [host(route(OFF, prefix="/a", headers=[{"name": "x"}]))],
        [host(route(OFF, path="/A", caseSensitive=False))],
        [host(route(OFF, path="/a*"))],
        [host(route({"typedPerFilterConfig": {"myGuard": {"config": {}}}}, path="/a"))],
        [host(route(OFF, path="/a")), {"domains": ["a.test"], "routes": [route(prefix="/")]}],
        [{"domains": ["a.test:8080"], "routes": [route(OFF, path="/x")]}],
        [{"domains": ["a.*"], "routes": [route(OFF, path="/x")]}],
    ],
)
def test_what_is_not_surely_the_same_is_left_to_the_reader(tmp_path: Path, hosts: Any) -> None:
    settings, left = imported(tmp_path, yaml.safe_dump(manager(*hosts)))
    assert "routes" not in settings
    assert left == (
        "filter 'myGuard': its typed_per_filter_config cannot be said by one route here as it is there: say it with"
        " routes, and guard: false in those where it is disabled\n"
    )
