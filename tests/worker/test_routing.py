"""Which plugins run on a request, in which order, with which conf."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from asgi_wasm.host.plugin import Plugin
from asgi_wasm.specs import PluginSpec, RouteSpec
from asgi_wasm.worker.routing import Router


@dataclass(frozen=True)
class Loaded:
    """As much of a plugin as routing looks at."""

    spec: PluginSpec


def plugin(name: str, priority: int = 0, conf: bytes | None = None, service: bool = False) -> Plugin:
    spec = PluginSpec(name, Path(f"{name}.wasm"), priority=priority, conf=conf, service=service)
    return cast(Plugin, Loaded(spec))


def route(uri: str, conf: bytes | None = b"", **more: Any) -> RouteSpec:
    more.setdefault("plugins", {"p": conf})
    return RouteSpec(uri, **more)


def found(router: Router, path: str, method: str = "GET", host: str = "example.test") -> list[tuple[str, bytes]]:
    scope = {"type": "http", "method": method, "path": path, "headers": [(b"host", host.encode())]}
    filters = router.filters(scope)
    assert filters is not None
    return [(item.spec.name, item.conf) for item in filters]


def test_descending_priority_and_the_lists_order() -> None:
    plugins = [plugin("a", 1), plugin("b", 7), plugin("c", 1), plugin("d", -2), plugin("e", 7)]
    router = Router(plugins, [])
    assert [name for name, _ in found(router, "/")] == ["b", "e", "a", "c", "d"]


def test_plugin_without_conf_runs_on_its_routes_only() -> None:
    plugins = [plugin("p"), plugin("own", conf=b"own"), plugin("everywhere")]
    router = Router(plugins, [route("/a", b"1", plugins={"p": b"1", "own": b"2"})])
    assert found(router, "/a") == [("p", b"1"), ("own", b"2"), ("everywhere", b"")]
    assert found(router, "/b") == [("own", b"own"), ("everywhere", b"")]


def test_route_without_conf_keeps_the_plugins_own() -> None:
    router = Router([plugin("p", conf=b"own"), plugin("bare")], [route("/a", plugins={"p": None, "bare": None})])
    assert found(router, "/a") == [("p", b"own"), ("bare", b"")]


def test_an_empty_conf_of_a_route_is_a_conf() -> None:
    assert found(Router([plugin("p", conf=b"own")], [route("/a", b"")]), "/a") == [("p", b"")]


def test_service_plugins_never_see_requests() -> None:
    assert found(Router([plugin("p", service=True)], []), "/") == []


ROUTES = [
    route("/*", b"all"),
    route("/a/*", b"prefix"),
    route("/a/b*", b"longer prefix"),
    route("/a/b", b"exact"),
    route("/a/b", b"host", hosts=("example.test",)),
    route("/a/b", b"method", methods=frozenset({"POST"})),
    route("/a/b", b"both", hosts=("example.test",), methods=frozenset({"POST"})),
    route("/wild", b"wild", hosts=("*.example.test",)),
]


@pytest.mark.parametrize("routes", [ROUTES, ROUTES[::-1]], ids=["in order", "reversed"])
@pytest.mark.parametrize(
    ("method", "host", "path", "conf"),
    [
        ("GET", "x", "/", b"all"),
        ("GET", "x", "/a/", b"prefix"),
        ("GET", "x", "/a/c", b"prefix"),
        ("GET", "x", "/a/bc", b"longer prefix"),
        ("GET", "x", "/a/b", b"exact"),
        ("GET", "example.test", "/a/b", b"host"),
        ("POST", "x", "/a/b", b"method"),
        ("POST", "example.test", "/a/b", b"both"),
        ("GET", "www.example.test", "/wild", b"wild"),
        ("GET", "example.test", "/wild", b"all"),
        ("GET", "evilexample.test", "/wild", b"all"),
    ],
)
def test_the_most_specific_route_wins(routes: list[RouteSpec], method: str, host: str, path: str, conf: bytes) -> None:
    assert found(Router([plugin("p")], routes), path, method, host) == [("p", conf)]


def test_equal_routes_are_taken_in_the_lists_order() -> None:
    routes = [route("/a", b"1", hosts=("*.test",)), route("/a", b"2", hosts=("example.test",))]
    assert found(Router([plugin("p")], routes), "/a") == [("p", b"1")]


def test_every_filter_is_each_plugin_and_conf_once() -> None:
    routes = [route("/a", b"1"), route("/b", b"2"), route("/c", b"1"), route("/d", None)]
    router = Router([plugin("p", conf=b"own"), plugin("q")], routes)
    assert [(item.spec.name, item.conf) for item in router.every_filter()] == [
        ("p", b"own"),
        ("q", b""),
        ("p", b"1"),
        ("p", b"2"),
    ]


OWN = [plugin("guard", conf=b"own"), plugin("p")]
SCOPE = {"type": "http", "method": "GET", "headers": []}
OPEN = route("/open/*", plugins={}, off=frozenset({"guard"}))


def test_a_route_keeps_a_plugin_off() -> None:
    """One with a conf of its own, and one without that no route gives any, would run everywhere else."""
    router = Router(OWN, [OPEN, route("/open/but/*", b"conf")])
    assert found(router, "/open/x") == []
    assert found(router, "/open/but/x") == [("guard", b"own"), ("p", b"conf")]
    assert found(router, "/x") == [("guard", b"own")]
    assert found(Router(OWN, [OPEN]), "/open/x") == [("p", b"")]


@pytest.mark.parametrize("path", ["/open/../private", "/open/..%2f/private", "//open/../x", "/open/\\../private"])
def test_no_other_reading_of_a_path_goes_past_a_plugin_that_a_route_keeps_off(path: str) -> None:
    """What a framework could read as a path that no route names has the plugins of such a path too."""
    path = path.replace("%2f", "/")
    for routes in ([OPEN], [OPEN, route("/other", b"")]):
        assert ("guard", b"own") in found(Router(OWN, routes), path)


@pytest.mark.parametrize("path", ["/open", "/health/", "/health//"])
def test_a_last_slash_does_not_go_past_a_plugin_that_a_route_keeps_off(path: str) -> None:
    """Where a framework tells them apart, they are two handlers, and only one was named."""
    router = Router(OWN, [OPEN, route("/health", plugins={}, off=frozenset({"guard"}))])
    assert ("guard", b"own") in found(router, path)
    assert found(router, "/health") == found(router, "/open/") == [("p", b"")]


@pytest.mark.parametrize(
    ("path", "guarded"),
    [
        ("/api/open/x", False),
        ("/open/x", False),
        ("/api/open/../x", True),
        # Litestar: `/private`.
        ("/open/api/private", True),
        # Django: `/open/x`; Starlette: as it stands.
        ("/apiopen/x", True),
        ("/api/private", True),
        ("/private", True),
    ],
)
def test_below_a_root_path_each_reading_that_a_client_may_choose_is_guarded(path: str, guarded: bool) -> None:
    filters = Router(OWN, [OPEN]).filters({**SCOPE, "path": path, "root_path": "/api"})
    assert filters is not None
    assert any(item.spec.name == "guard" for item in filters) is guarded


def test_a_path_with_too_many_readings_has_every_plugin() -> None:
    assert ("guard", b"own") in found(Router(OWN, [OPEN]), "/open" + "/.." * 100 + "/open/x")
