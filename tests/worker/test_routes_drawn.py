"""Drawn routes and requests: a request that reaches the handler that a route is bound to falls under the route."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import cast

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse as FastAPIResponse
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route
from starlette.routing import Router as StarletteRouter
from starlette.staticfiles import StaticFiles

from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send
from asgi_wasm.specs import RouteSpec
from asgi_wasm.worker.routing import Router
from tests.driving import http_scope, request
from tests.extras import why_not
from tests.worker.test_routing import plugin

SECRET = b"secret"
SEGMENTS = ["a", "b", "admin"]
HOST = "example.com"


async def secret(_: Request) -> PlainTextResponse:
    return PlainTextResponse(SECRET)


def starlette(path: str) -> ASGIApp:
    return Starlette(routes=[Host(HOST, StarletteRouter([Route(path, secret)]))])


def fastapi(path: str) -> ASGIApp:
    app = FastAPI()

    @app.get(path)
    async def found() -> FastAPIResponse:
        return FastAPIResponse(SECRET)

    return app


def static(path: str) -> ASGIApp:
    mount, _, file = path[1:].partition("/")
    folder = Path(tempfile.mkdtemp(prefix="drawn-"))
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(SECRET)
    return Starlette(routes=[Mount(f"/{mount}", StaticFiles(directory=folder))])


def litestar(path: str) -> ASGIApp:
    from litestar import Litestar, get

    @get(path, sync_to_thread=False)
    def found() -> bytes:
        return SECRET

    return cast(ASGIApp, Litestar([found], openapi_config=None))


APPS = {"starlette": starlette, "fastapi": fastapi, "static": static, "litestar": litestar}


@st.composite
def routes_and_requests(draw: st.DrawFn) -> tuple[str, RouteSpec, dict[str, object]]:
    segments = draw(st.lists(st.sampled_from(SEGMENTS), min_size=2, max_size=4))
    handler = "/" + "/".join(segments)
    uri = handler
    if draw(st.booleans()):
        uri = "/" + "".join(f"{segment}/" for segment in segments[: draw(st.integers(0, len(segments) - 1))]) + "*"
    methods = draw(st.sampled_from([frozenset[str](), frozenset({"GET"}), frozenset({"GET", "POST"})]))
    hosts = draw(st.sampled_from([(), (HOST,), ("*.com", HOST)]))
    path = handler
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(path)))
        odd = draw(st.sampled_from(["/", "//", "/.", "/x/..", "/..", "\n", "\\", "/api", "/../" + segments[0]]))
        path = path[:at] + odd + path[at:]
    root = draw(st.sampled_from(["", "/api"]))
    path = root + path if draw(st.booleans()) else path
    host = draw(st.sampled_from([b"example.com", b"EXAMPLE.com:80", b"example.com:80:80", b"example.com."]))
    method = draw(st.sampled_from(["GET", "HEAD"]))
    more: dict[str, object] = {"path": path, "root_path": root, "method": method, "headers": [(b"host", host)]}
    return handler, RouteSpec(uri, hosts, methods, {"guard": b""}), more


_without_litestar = pytest.mark.skipif(bool(why_not("litestar")), reason=why_not("litestar"))


@pytest.mark.parametrize(
    "framework", [pytest.param(name, marks=_without_litestar if name == "litestar" else ()) for name in APPS]
)
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=routes_and_requests())
@example(
    drawn=("/a/b", RouteSpec("/a/b", (), frozenset({"GET"}), {"guard": b""}), {"path": "/a//../../b", "method": "HEAD"})
)
@example(
    drawn=("/a/b", RouteSpec("/a/b", (), frozenset(), {"guard": b""}), {"path": "/x/api/a/b", "root_path": "/api"})
)
def test_who_reaches_the_handler_meets_the_guard(
    framework: str, drawn: tuple[str, RouteSpec, dict[str, object]]
) -> None:
    handler, route, more = drawn
    app = APPS[framework](handler)
    scope = {**http_scope(), "raw_path": str(more["path"]).encode(), **more}

    async def as_drawn(_: Scope, receive: Receive, send: Send) -> None:
        await app(dict(scope), receive, send)

    answer = asyncio.run(request(as_drawn))
    if answer.status == 200:
        filters = Router([plugin("guard")], [route]).filters(scope)
        assert filters and filters[0].spec.name == "guard", (route, more)
