"""Routes that no request can match are mistakes; those that can are not."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.errors import SettingsError
from asgi_wasm.settings import load


def settings(**more: Any) -> dict[str, Any]:
    return {"plugins": [{"name": "p", "file": "p.wasm"}], "routes": [{"uri": "/a", "plugins": {"p": {}}, **more}]}


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"hosts": ["*"]}, "has its '*' in an odd place"),
        ({"hosts": ["example.*"]}, "has its '*' in an odd place"),
        ({"hosts": ["*example.test"]}, "has its '*' in an odd place"),
        ({"hosts": ["a.*.test"]}, "has its '*' in an odd place"),
        ({"hosts": ["example.test:80"]}, "leave scheme, port and path out"),
        ({"hosts": ["example.test:"]}, "leave scheme, port and path out"),
        ({"hosts": ["http://example.test"]}, "leave scheme, port and path out"),
        ({"hosts": ["[::1]:80"]}, "leave scheme, port and path out"),
        ({"hosts": ["example.test."]}, "ends with a dot"),
        ({"hosts": [""]}, "is no host name"),
        ({"hosts": [" example.test"]}, "is no host name"),
        ({"hosts": ["-a.test"]}, "is no host name"),
        ({"hosts": "example.test,b.test"}, "write them as a list"),
        ({"hosts": ["bücher.test"]}, "write 'xn--bcher-kva.test'"),
        ({"hosts": []}, "is empty, so nothing would match"),
        ({"methods": "GET,POST"}, "is no method"),
        ({"methods": ["*"]}, "is no method"),
        ({"methods": ["GET "]}, "is no method"),
        ({"methods": [""]}, "is no method"),
        ({"methods": []}, "is empty, so nothing would match"),
        ({"uri": "/%61dmin"}, "is encoded"),
        ({"uri": "/admin?x=1"}, "leave query and fragment out"),
        ({"uri": "/admin#x"}, "leave query and fragment out"),
        ({"uri": "/admin\0"}, "has characters that no path has"),
        ({"uri": "/admin\n"}, "has characters that no path has"),
        ({"uri": "/a/../admin"}, "write the path that they lead to"),
        ({"uri": "/a/./*"}, "write the path that they lead to"),
        ({"uri": "/a//b"}, "write the path that they lead to"),
        ({"uri": "admin"}, "is no route: begin it with '/'"),
        ({"uri": []}, "is empty, so nothing would match"),
        ({"uri": ["/a", "/a"]}, "is routed twice"),
    ],
)
def test_a_route_that_no_request_can_match(more: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(settings(**more))
    assert problem in str(caught.value)
    assert "routes[0]" in str(caught.value)


@pytest.mark.parametrize(
    "more",
    [
        {
            "hosts": [
                "example.test",
                "*.Example.test",
                "localhost",
                "127.0.0.1",
                "[::1]",
                "a_b.test",
                "xn--bcher-kva.test",
            ]
        },
        {"methods": ["get", "POST", "M-SEARCH"]},
        {"uri": ["/", "/*", "/a b", "/größe/*", "/a.b/..c/...", "/100%", "/%zz", "/a:b;c=d,e@f"]},
    ],
)
def test_a_route_that_some_request_matches(more: dict[str, Any]) -> None:
    assert load(settings(**more)).routes


def test_the_same_route_in_other_letters_is_the_same() -> None:
    routes = [{"uri": "/a", "hosts": [host], "plugins": {}} for host in ("a.test", "A.test")]
    with pytest.raises(SettingsError, match="is routed twice"):
        load({"routes": routes})


# The word is what the environment has: ASGI_WASM_ROUTES__probe__PLUGINS__p=false.
@pytest.mark.parametrize("off", [False, "false", {"enabled": False}, {"enabled": "no"}])
def test_a_route_may_keep_a_plugin_off(off: object) -> None:
    (route,) = load(settings(plugins={"p": off})).routes
    assert (dict(route.plugins), route.off) == ({}, frozenset({"p"}))
    (route,) = load(settings(plugins={"p": True})).routes
    assert (dict(route.plugins), route.off) == ({"p": None}, frozenset())


def test_a_plugin_that_is_off_is_in_no_route() -> None:
    """Its file is not looked at, and nothing of it is left."""
    given = settings(plugins={"p": {"conf": "x"}})
    given["plugins"] = [{"name": "p", "file": "nowhere.wasm", "enabled": False}, {"name": "q", "file": "q.wasm"}]
    spec = load(given)
    assert ([plugin.name for plugin in spec.plugins], spec.off) == (["q"], ("p",))
    assert [dict(route.plugins) for route in spec.routes] == [{}]


def test_all_off_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_WASM_ENABLED", "false")
    given = settings()
    given["routes"].append({"default": "deny"})
    spec = load(plugins=given["plugins"], routes=given["routes"])
    assert (spec.plugins, spec.off, spec.deny_unrouted) == ((), ("p",), False)


def test_one_off_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_WASM_PLUGINS__P__ENABLED", "false")
    assert load(plugins=settings()["plugins"]).off == ("p",)
