"""As what a request may be read, and which routes that puts it under."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from asgi_wasm.host.plugin import Plugin
from asgi_wasm.specs import DEFAULT_PATHS, PathSpec, PluginSpec, RouteSpec
from asgi_wasm.worker import readings
from asgi_wasm.worker.routing import Router
from tests.worker.test_routing import Loaded, plugin, route


def scope(path: str = "/", root_path: str | None = "", **more: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": path, "root_path": root_path, "headers": [], **more}


def all_paths(path: str, root: str | None = "", spec: PathSpec = DEFAULT_PATHS) -> set[str]:
    return {reading for group in readings.paths(scope(path, root), spec) for reading in group}


@pytest.mark.parametrize("path", ["/", "/admin", "/admin/", "/a.b/c-d", "/a..b/.c", "/ä/%2F", "/" + "x/" * 500])
def test_an_ordinary_path_has_one_reading(path: str) -> None:
    if path == "/a..b/.c":
        # A segment that begins with a dot is looked at more closely, and is none.
        assert all_paths(path) == {path}
        return
    assert readings.paths(scope(path), DEFAULT_PATHS) == ((path,),)


@pytest.mark.parametrize(
    ("path", "root", "reading"),
    [
        ("/api/admin/x", "/api", "/admin/x"),
        ("/api/admin/x", "/api", "/api/admin/x"),
        ("/admin/x", "/api", "/api/admin/x"),
        ("/admin/x", "/api/", "/api/admin/x"),
        ("/api", "/api", "/"),
        ("/apiadmin/x", "/api", "/admin/x"),
        # Litestar takes off what stands before it, too.
        ("/x/api/admin", "/api", "/admin"),
        ("/x/api/admin", "/api", "/api/admin"),
        ("/admin\n", "", "/admin"),
        ("/a/../admin\n", "", "/admin"),
        ("admin/x", "", "/admin/x"),
        ("", "", "/"),
        ("//admin/x", "", "/admin/x"),
        ("/admin//x", "", "/admin/x"),
        ("/static/x/../admin", "", "/static/admin"),
        ("/static/./admin", "", "/static/admin"),
        ("/static/../admin", "", "/admin"),
        # Below a mount, whose root no `..` leaves.
        ("/static//../../admin", "", "/static/admin"),
        ("/static/../../../admin", "", "/static/admin"),
        ("/a\\..\\admin", "", "/admin"),
        ("/admin/..", "", "/"),
        ("/api//admin/./x", "/api", "/admin/x"),
    ],
)
def test_readings_of_a_path(path: str, root: str, reading: str) -> None:
    assert reading in all_paths(path, root)
    # As it came is always one.
    assert (path if path.startswith("/") else f"/{path}") in all_paths(path, root)


def test_a_missing_root_path_is_none() -> None:
    assert readings.paths({"path": "/a", "headers": []}, DEFAULT_PATHS) == (("/a",),)
    assert all_paths("/a", None) == {"/a"}


def test_settings_of_paths() -> None:
    exact = PathSpec(normalize_path=False, merge_slashes=False)
    assert all_paths("/a//b/../c", spec=exact) == {"/a//b/../c"}
    assert "/a/b/../c" in all_paths("/a//b/../c", spec=PathSpec(normalize_path=False))
    assert "/a/c" not in all_paths("/a//b/../c", spec=PathSpec(normalize_path=False))


def test_a_path_that_is_too_odd() -> None:
    with pytest.raises(readings.TooManyReadingsError):
        readings.paths(scope("/.." * (readings.MAX_SEGMENTS + 1)), DEFAULT_PATHS)
    assert "/" in all_paths("/.." * readings.MAX_SEGMENTS)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([b"Example.TEST"], {"example.test"}),
        ([b"example.test:80"], {"example.test"}),
        ([b"example.test."], {"example.test"}),
        ([b"example.test.:80"], {"example.test"}),
        ([b"example.test:"], {"example.test"}),
        ([b"example.test:80:80"], {"example.test", "example.test:80:80"}),
        ([b"[::1]:80"], {"[::1]", "["}),
        ([b"a.test", b"b.test"], {"a.test", "b.test"}),
        ([], {"10.0.0.1"}),
        ([b""], {"", "10.0.0.1"}),
    ],
)
def test_readings_of_a_host(headers: list[bytes], expected: set[str]) -> None:
    made = scope(headers=[(b"host", value) for value in headers], server=("10.0.0.1", 80))
    assert set(readings.hosts(made)) == expected


def test_a_host_without_a_server() -> None:
    assert readings.hosts(scope()) == ("",)
    assert readings.hosts(scope(server=None)) == ("",)


@pytest.mark.parametrize(("method", "expected"), [("GET", "GET"), ("gEt", "GET"), ("HEAD", "HEAD")])
def test_the_method(method: str, expected: str) -> None:
    assert readings.method(scope(method=method)) == expected


def test_a_websocket_is_a_get() -> None:
    assert readings.method({"type": "websocket"}) == "GET"


# --- under which routes


def confs(router: Router, **more: Any) -> list[bytes] | None:
    filters = router.filters(scope(**more))
    return None if filters is None else [item.conf for item in filters]


def test_every_readings_route_runs_once_and_in_the_plugins_order() -> None:
    plugins = [plugin("low", 1), plugin("high", 2)]
    routes = [
        route("/static/*", plugins={"low": b"static"}),
        route("/admin/*", plugins={"high": b"admin", "low": b"static"}),
    ]
    router = Router(plugins, routes)
    found = router.filters(scope("/static/../admin/x"))
    assert found is not None
    assert [(item.spec.name, item.conf) for item in found] == [("high", b"admin"), ("low", b"static")]
    # The same object, since lanes are kept by it.
    assert router.filters(scope("/static/./../admin/y")) is found
    assert confs(router, path="/static/x") == [b"static"]


def test_a_last_slash_more_or_less() -> None:
    router = Router([plugin("p")], [route("/admin/*", b"below"), route("/exact", b"exact")])
    assert confs(router, path="/admin") == [b"below"]
    assert confs(router, path="/exact/") == [b"exact"]
    named = Router([plugin("p")], [route("/admin/*", b"below"), route("/admin", b"itself"), route("/admin/", b"slash")])
    assert confs(named, path="/admin") == [b"itself"]
    assert confs(named, path="/admin/") == [b"slash"]
    assert confs(named, path="/admin/x") == [b"below"]


def test_head_is_a_get_unless_it_is_named() -> None:
    get, head = route("/a", b"get", methods=frozenset({"GET"})), route("/a", b"head", methods=frozenset({"HEAD"}))
    assert confs(Router([plugin("p")], [get]), path="/a", method="HEAD") == [b"get"]
    assert confs(Router([plugin("p")], [get, head]), path="/a", method="HEAD") == [b"head"]
    assert confs(Router([plugin("p")], [get, head]), path="/a", method="get") == [b"get"]


def test_too_odd_a_path_falls_under_every_route() -> None:
    routes = [route("/a", b"1"), route("/b/*", b"2")]
    path = "/.." * 100
    assert confs(Router([plugin("p")], routes), path=path) == [b"1", b"2"]
    assert confs(Router([plugin("p")], routes, denies=True), path=path) is None


def test_combinations_are_bounded() -> None:
    routes = [route(f"/{number}/*", b"%d" % number) for number in range(40)]
    router = Router([plugin("p")], routes)
    seen = set()
    for first in range(40):
        for second in range(40):
            filters = router.filters(scope(f"/{first}/../{second}/x"))
            assert filters is not None
            assert {b"%d" % second} <= {item.conf for item in filters}
            seen.add(id(filters))
    assert len(seen) <= 40 + 256 + 2


@pytest.mark.parametrize(
    ("path", "root", "runs"),
    [
        ("/public/x", "", [b"p"]),
        ("/secret", "", None),
        ("/", "", None),
        # Whoever does not resolve dots would answer by /secret.
        ("/secret/../public/x", "", None),
        ("/public/../secret", "", None),
        ("/public//x", "", [b"p"]),
        ("/api/public/x", "/api", [b"p"]),
        ("/api/secret/x", "/api", None),
    ],
)
def test_what_no_route_names_is_refused(path: str, root: str, runs: list[bytes] | None) -> None:
    router = Router([plugin("p")], [route("/public/*", b"p")], denies=True)
    assert confs(router, path=path, root_path=root) == runs


def test_without_routes_all_is_refused() -> None:
    assert Router([plugin("p")], [], denies=True).filters(scope()) is None


def test_plugins_that_are_everywhere_run_once_on_an_odd_request() -> None:
    everywhere = cast(Plugin, Loaded(PluginSpec("all", Path("all.wasm"), conf=b"own")))
    router = Router([everywhere, plugin("p")], [RouteSpec("/a/*", plugins={"p": b"x"})])
    assert confs(router, path="/b//c") == [b"own"]
    assert confs(router, path="//a//b") == [b"own", b"x"]
