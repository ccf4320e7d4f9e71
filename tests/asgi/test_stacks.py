"""Two of our middlewares around one app, directly or by a mount: what plugins set is the request's, whoever asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp
from asgi_wasm.testing import Hostcalls, TestMiddleware
from tests.driving import request
from tests.guests import CONTINUE, PAUSE, Guest
from tests.plugins.conftest import PLUGINS


def setting(name: bytes, value: bytes, phase: str = "on_request_headers") -> Any:
    def callback(api: Hostcalls, *_: int) -> int:
        api.set_property(name, value)
        return CONTINUE

    return {phase: callback}


class Stack:
    """The outer middleware's plugins and the inner one's, around one app."""

    def __init__(self, tmp_path: Path, outer: Guest, inner: Guest) -> None:
        self._tmp_path = tmp_path
        self._guests = {"outer": outer, "inner": inner}

    def _wrap(self, name: str, app: ASGIApp, **settings: Any) -> WasmMiddleware:
        plugins = [{"name": name, "file": self._guests[name]}]
        settings = {"plugins": plugins, "cache_dir": str(self._tmp_path / "cache"), **settings}
        return TestMiddleware(app, settings=settings, guest_dir=self._tmp_path)

    @asynccontextmanager
    async def around(self, app: ASGIApp, way: str, **inner: Any) -> AsyncIterator[ASGIApp]:
        within = self._wrap("inner", app, **inner)
        if way == "stack":
            outside = whole = self._wrap("outer", within)
        elif way == "mount":
            outside = whole = self._wrap("outer", Starlette(routes=[Mount("/at", within)]))
        else:
            # Another middleware between them, which calls the app in a task of its own.
            outside = whole = self._wrap("outer", BaseHTTPMiddleware(within, _between))
        async with outside, within:
            yield whole


async def _between(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


WAYS = ["stack", "mount", "between"]


def shows() -> tuple[ASGIApp, dict[str, Any]]:
    seen: dict[str, Any] = {}

    async def page(request: Request) -> PlainTextResponse:
        seen.update(properties=dict(request.scope["asgi_wasm"]), user=request.scope["asgi_wasm"].text("user"))
        request.state.user = "ann"
        return PlainTextResponse("app")

    return Starlette(routes=[Route("/{rest:path}", page)]), seen


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body_callbacks", [False, True])
async def test_the_app_sees_the_properties_of_both(tmp_path: Path, way: str, body_callbacks: bool) -> None:
    more: dict[str, Any] = {"on_response_body": lambda *_: CONTINUE} if body_callbacks else {}

    outer = Guest(**setting(b"user", b"alice"), **more)
    inner = Guest(**setting(b"tenant", b"acme"), **more)
    app, seen = shows()
    async with Stack(tmp_path, outer, inner).around(app, way) as whole:
        response = await request(whole, path="/at/x")
        assert (response.status, response.body) == (200, b"app")
        assert seen == {"properties": {"user": b"alice", "tenant": b"acme"}, "user": "alice"}
        # The next request begins with none.
        await request(whole, path="/at/x")
        assert seen["properties"] == {"user": b"alice", "tenant": b"acme"}
    for guest in (outer, inner):
        assert sorted(guest.deleted) == sorted(guest.created) == sorted(guest.logged)


@pytest.mark.parametrize("way", WAYS)
async def test_plugins_read_those_of_the_other_middleware(tmp_path: Path, way: str) -> None:
    """Both ways, as filters of one chain do in Envoy; of one request only."""
    read: list[bytes | None] = []

    def inner_request(api: Hostcalls, *_: int) -> int:
        read.append(api.get_property(b"user"))
        api.set_property(b"tenant", b"acme")
        return CONTINUE

    def outer_response(api: Hostcalls, *_: int) -> int:
        read.append(api.get_property(b"tenant"))
        return CONTINUE

    outer = Guest(**setting(b"user", b"alice"), on_response_headers=outer_response)
    inner = Guest(on_request_headers=inner_request)
    app, _ = shows()
    async with Stack(tmp_path, outer, inner).around(app, way) as whole:
        await request(whole, path="/at/x")
        await request(whole, path="/at/y")
    assert read == [b"alice", b"acme"] * 2


@pytest.mark.parametrize("way", WAYS)
async def test_where_the_inner_one_runs_no_plugin(tmp_path: Path, way: str) -> None:
    app, seen = shows()
    stack = Stack(tmp_path, Guest(**setting(b"user", b"alice")), Guest())
    routes = [{"uri": "/elsewhere", "plugins": {"inner": {}}}]
    async with stack.around(app, way, routes=routes) as whole:
        await request(whole, path="/at/x")
    assert seen["properties"] == {"user": b"alice"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", ["outer", "inner"])
async def test_an_answer_of_either(tmp_path: Path, way: str, place: str) -> None:
    def denied(api: Hostcalls, *_: int) -> int:
        api.send_local_response(403, b"no")
        return PAUSE

    guests = {"outer": Guest(), "inner": Guest()}
    guests[place] = Guest(on_request_headers=denied)
    app, seen = shows()
    async with Stack(tmp_path, guests["outer"], guests["inner"]).around(app, way) as whole:
        response = await request(whole, path="/at/x")
    assert (response.status, response.body, seen) == (403, b"no", {})


@pytest.mark.parametrize("plugin", ["probe/abi_0_2_1"])
async def test_compiled_plugins(plugin: str) -> None:
    """The headers of both are lent to kernels."""

    app, seen = shows()
    file = PLUGINS / f"{plugin}.wasm"
    outer, inner = (
        {"plugins": [{"name": name, "file": file, "conf": f'request_headers: set_property "{name}" "1"\n'}]}
        for name in ("outer", "inner")
    )
    within = WasmMiddleware(app, settings=inner)
    async with within, WasmMiddleware(within, settings=outer) as whole:
        assert (await request(whole)).status == 200
    assert seen["properties"] == {"outer": b"1", "inner": b"1"}


@pytest.mark.parametrize("action", ["keep_unchanged", "unescape_and_forward"])
async def test_middlewares_outside_read_what_the_app_adds(tmp_path: Path, action: str) -> None:
    """Also where settings give the app another path."""
    seen: dict[str, Any] = {}

    class Outside:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(scope, receive, send)
            seen.update(path_params=scope.get("path_params"), route=scope.get("endpoint"))

    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("app")

    settings = {
        "plugins": [{"name": "p", "file": PLUGINS / "headers" / "c.wasm"}],
        "path_with_escaped_slashes_action": action,
    }
    wasm = Middleware(WasmMiddleware, settings=settings)
    app = Starlette(routes=[Route("/{rest:path}", page)], middleware=[Middleware(Outside), wasm])
    assert (await request(app, path="/a%2fb")).status == 200
    assert seen["route"] is page
    assert "rest" in seen["path_params"]
