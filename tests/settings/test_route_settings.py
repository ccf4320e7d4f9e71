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
