"""`when`: plugins run on the requests for which their conditions hold."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm import SettingsError
from asgi_wasm.settings import load
from asgi_wasm.testing import Hostcalls
from tests.driving import answering, http_scope, request
from tests.guests import CONTINUE, RESPONSE_HEADERS, Guest, Serve

APP = answering(b"app")


def marking(mark: bytes) -> Guest:
    def on_headers(api: Hostcalls, *_: int) -> int:
        api.add_header_map_value(RESPONSE_HEADERS, b"x-ran", mark)
        return CONTINUE

    return Guest(on_response_headers=on_headers)


def ran(headers: Any) -> list[bytes]:
    return [value for name, value in headers if name == b"x-ran"]


@pytest.mark.parametrize(
    ("when", "runs"),
    [
        ('request.headers["x-debug"] == "1"', True),
        ('request.headers["x-debug"] == "2"', False),
        ('request.headers["x-none"] != "1"', True),
        ('"x-none" in request.headers', False),
        ("request.path == '/a?b=c' && request.url_path == '/a' && request.method == 'GET'", True),
        ("request.host == 'example.test' && request.scheme == 'http'", True),
        ("request.headers['host'] == 'example.test'", True),
        ("request.headers.exists(name, name == 'x-debug')", True),
        ("source.address.startsWith('127.') && request.query == 'b=c'", True),
        ("random() < 0.0", False),
        ("random() < 1.0", True),
    ],
)
async def test_a_plugin_runs_when_its_condition_holds(serve_guests: Serve, when: str, runs: bool) -> None:
    guests = marking(b"one"), marking(b"two")
    async with serve_guests(APP, *guests, entries=[{"when": when}, {}]) as middleware:
        response = await request(middleware, path="/a", query_string=b"b=c", headers=[(b"x-debug", b"1")])
        assert ran(response.headers) == ([b"two", b"one"] if runs else [b"two"])
        assert bool(guests[0].created) is runs


ADMIN, NOT_HEALTH = "request.url_path.startsWith('/admin')", "!request.path.startsWith('/health')"
WRITES, IN_ADMIN = "request.method in ['POST', 'PUT']", "request.host == 'admin.test'"
RAW: dict[str, Any] = {"raw_path": b"/%61dmin/x", "path": "/admin/x"}


@pytest.mark.parametrize(
    ("when", "scope", "runs"),
    [
        (ADMIN, RAW, True),
        (ADMIN, {"path": "//admin"}, True),
        (ADMIN, {"path": "/open/../admin"}, True),
        (ADMIN, {"path": "/admin", "root_path": "/app"}, True),
        (ADMIN, {"path": "/app/admin", "root_path": "/app"}, True),
        (ADMIN, {"path": "/x/../" * 70}, True),
        (ADMIN, {"path": "/open", "query_string": b"/admin"}, False),
        (ADMIN, {"raw_path": b"/open%3F/admin", "path": "/open?/admin"}, False),
        (f"{ADMIN} && {WRITES}", {**RAW, "method": "post"}, True),
        (f"{ADMIN} && {WRITES}", RAW, False),
        ("request.headers[':path'] == '/admin/x'", RAW, True),
        (NOT_HEALTH, {"raw_path": b"/%61dmin", "path": "/admin"}, True),
        (NOT_HEALTH, {"path": "/health/../admin"}, True),
        (NOT_HEALTH, {"path": "/health"}, False),
        (WRITES, {"method": "put"}, True),
        ("request.method == 'GET'", {"method": "HEAD"}, True),
        (IN_ADMIN, {"headers": [(b"host", b"ADMIN.test.:8080")]}, True),
        (IN_ADMIN, {"headers": [(b"host", b"open.test"), (b"host", b"admin.test")]}, True),
        (IN_ADMIN, {"headers": [], "server": ("admin.test", 80)}, True),
        (IN_ADMIN, {"headers": [(b"host", b"open.test")], "server": ("admin.test", 80)}, False),
        (
            "request.headers['cookie'] == 'a=1; b=2'",
            {"http_version": "2", "headers": [(b"host", b"h"), (b"cookie", b"a=1"), (b"cookie", b"b=2")]},
            True,
        ),
    ],
)
async def test_a_client_keeps_no_plugin_off_by_spelling_a_request_otherwise(
    serve_guests: Serve, when: str, scope: dict[str, Any], runs: bool
) -> None:
    """The app may read it as one for which the condition holds."""
    async with serve_guests(APP, marking(b"ran"), entries=[{"when": when}]) as middleware:
        filters = middleware._worker.plugins.router.filters({**http_scope(path=scope.get("path", "/")), **scope})
        assert bool(filters) is runs


@pytest.mark.parametrize(("drawn", "runs"), [(0.6, False), (0.4, True)])
async def test_chance_is_asked_once_for_all_readings(
    serve_guests: Serve, monkeypatch: pytest.MonkeyPatch, drawn: float, runs: bool
) -> None:
    draws = iter([drawn])
    monkeypatch.setattr("asgi_wasm.worker.conditions.random.random", lambda: next(draws))
    when = "random() < 0.5 && request.path.startsWith('/a/')"
    async with serve_guests(APP, marking(b"ran"), entries=[{"when": when}]) as middleware:
        assert ran((await request(middleware, path="//a/b/../c")).headers) == [b"ran"] * runs


async def test_requests_with_the_same_answers_share_a_lane(serve_guests: Serve) -> None:
    when = [{"conf": "own", "when": 'request.headers["x-a"] == "1"'}, {"when": 'request.headers["x-b"] == "1"'}]
    routes = [{"uri": "/r/*", "plugins": {"g0": {"conf": "other"}}}]
    guests = marking(b"a"), marking(b"b")
    async with serve_guests(APP, *guests, entries=when, routes=routes) as middleware:
        for path in ("/", "/r/1"):
            for a in (b"0", b"1"):
                for b in (b"0", b"1"):
                    for _ in range(3):
                        response = await request(middleware, path=path, headers=[(b"x-a", a), (b"x-b", b)])
                        assert ran(response.headers) == [m for m, on in ((b"b", b), (b"a", a)) if on == b"1"]
        router = middleware._worker.plugins.router
        scope = http_scope(headers=[(b"x-a", b"1")])
        assert router.filters(scope) is router.filters(dict(scope))
        # Two routes, and four answers on each.
        assert len(router._conditions._narrowed) == 8


async def test_one_without_an_answer_lets_its_plugin_run(serve_guests: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async with serve_guests(APP, marking(b"ran"), entries=[{"when": "request.useragent == 'x'"}]) as middleware:
        for _ in range(3):
            assert ran((await request(middleware)).headers) == [b"ran"]
        assert ran((await request(middleware, headers=[(b"user-agent", b"y")])).headers) == []
    assert caplog.text.count("its condition has no answer for a request, on which it runs therefore (said once)") == 1


async def test_what_would_run_here_is_told(serve_guests: Serve) -> None:
    when = [{"when": "request.url_path.startsWith('/admin')"}, {}]
    async with serve_guests(APP, marking(b"a"), marking(b"b"), entries=when) as middleware:
        assert [each.name for each in middleware.running_on("GET", "/admin/x") or ()] == ["g0", "g1"]
        assert [each.name for each in middleware.running_on("GET", "/") or ()] == ["g1"]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"when": "request.path =="}, "is no condition: line and column 1:16: Syntax error"),
        ({"when": "request.path"}, None),
        ({"when": "1 + 1"}, "is no condition: comes to int, not to true or false"),
        ({"when": "response.code == 200"}, "undeclared reference to 'response.code'"),
        ({"when": "true", "service": True}, "is for requests, of which a service has none"),
    ],
)
def test_mistakes_are_one_sentence_at_start(entry: dict[str, Any], problem: str | None) -> None:
    settings = {"plugins": [{"name": "p", "file": "p.wasm", **entry}]}
    if problem is None:
        assert load(settings).plugins[0].when == entry["when"]
        return
    with pytest.raises(SettingsError) as raised:
        load(settings)
    assert "plugins.p.when: " in str(raised.value)
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cel_expr_python", None)
    with pytest.raises(SettingsError, match=r"plugins\.p\.when: needs the package cel-expr-python: pip install"):
        load({"plugins": [{"name": "p", "file": "p.wasm", "when": "true"}]})
