"""Each sentence of `sample_apps/README.md` about where the middleware stands among others."""

from __future__ import annotations

import gzip
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from asgi_wasm import WasmMiddleware
from tests.serving import ROOT

with warnings.catch_warnings():
    # Newer releases of Starlette want httpx2 for it, and take httpx as well.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

PLUGINS = ROOT / "plugins"
ORIGIN = {"origin": "https://page.test"}
PREFLIGHT = {**ORIGIN, "access-control-request-method": "GET"}
CORS = Middleware(CORSMiddleware, allow_origins=["https://page.test"])
GZIP = Middleware(GZipMiddleware, minimum_size=1)
SESSIONS = Middleware(SessionMiddleware, secret_key="x")
HOSTS = Middleware(TrustedHostMiddleware, allowed_hosts=["shop.test"])


def wasm(name: str, file: str, conf: Any = None) -> Middleware:
    """Ours, with one plugin."""
    plugin = {"name": name, "file": str(PLUGINS / file), **({} if conf is None else {"conf": conf})}
    return Middleware(WasmMiddleware, settings={"plugins": [plugin]})


REFUSING = wasm("fault", "fault_injection/rust.wasm", {"http_status": 403, "body": "no"})
APPENDING = wasm("body", "body/go.wasm", {"direction": "response", "text": " and more"})
SEEING = wasm("headers", "headers/rust.wasm", {"response": {"add": {"x-plugin": "ran"}}})
LOGGING = wasm("lifecycle", "lifecycle/abi_0_2_1.wasm")


async def hello(_request: Request) -> Response:
    return PlainTextResponse("hello " * 100)


async def remember(request: Request) -> Response:
    request.session["seen"] = request.session.get("seen", 0) + 1
    return JSONResponse({"seen": request.session["seen"], "cookie": request.headers.get("cookie", "")})


async def missing(_request: Request) -> Response:
    raise HTTPException(404, "not here")


async def broken(_request: Request) -> Response:
    raise RuntimeError("broken")


ROUTES = [Route("/", hello), Route("/remember", remember), Route("/missing", missing), Route("/broken", broken)]


@contextmanager
def stack(*outermost_first: Middleware, host: str = "shop.test") -> Iterator[TestClient]:
    app = Starlette(routes=ROUTES, middleware=list(outermost_first))
    with TestClient(app, base_url=f"http://{host}", raise_server_exceptions=False) as client:
        yield client


def raw(client: TestClient, path: str = "/") -> bytes:
    """The body as it was on the wire."""
    with client.stream("GET", path) as answer:
        return b"".join(answer.iter_raw())


def test_add_middleware_puts_the_last_outermost() -> None:
    app = Starlette(routes=ROUTES)
    app.add_middleware(WasmMiddleware, settings=REFUSING.kwargs["settings"])
    app.add_middleware(CORSMiddleware, allow_origins=["https://page.test"])
    with TestClient(app) as client:
        assert client.get("/", headers=ORIGIN).headers["access-control-allow-origin"] == "https://page.test"


def test_cors_outside_is_on_local_responses_and_answers_preflights_alone() -> None:
    with stack(CORS, REFUSING) as client:
        refused = client.get("/", headers=ORIGIN)
        assert (refused.status_code, refused.headers.get("access-control-allow-origin")) == (403, "https://page.test")
        assert client.options("/", headers=PREFLIGHT).status_code == 200


def test_cors_inside_is_not_on_local_responses_and_its_preflights_pass_the_plugin() -> None:
    with stack(REFUSING, CORS) as client:
        refused = client.get("/", headers=ORIGIN)
        assert (refused.status_code, refused.headers.get("access-control-allow-origin")) == (403, None)
        assert client.options("/", headers=PREFLIGHT).status_code == 403


def test_gzip_outside_compresses_what_plugins_made() -> None:
    with stack(GZIP, APPENDING) as client:
        assert gzip.decompress(raw(client)) == b"hello " * 100 + b" and more"


def test_gzip_inside_gives_plugins_compressed_bodies() -> None:
    with stack(APPENDING, GZIP) as client:
        body = raw(client)
        assert body.endswith(b" and more")
        assert gzip.decompress(body.removesuffix(b" and more")) == b"hello " * 100


@pytest.mark.parametrize("order", [(SESSIONS, SEEING), (SEEING, SESSIONS)], ids=["outside", "inside"])
def test_sessions_work_on_either_side(order: Sequence[Middleware]) -> None:
    with stack(*order) as client:
        assert [client.get("/remember").json()["seen"] for _ in range(3)] == [1, 2, 3]


def test_plugins_see_the_cookie_of_a_session_and_not_what_is_in_it() -> None:
    """With the middleware for sessions inside they see its set-cookie too, and outside they do not."""
    taking = wasm("headers", "headers/rust.wasm", {"response": {"remove": ["set-cookie"]}})
    with stack(taking, SESSIONS) as client:
        assert "set-cookie" not in client.get("/remember").headers
    with stack(SESSIONS, taking) as client:
        assert "set-cookie" in client.get("/remember").headers


def test_trusted_hosts_outside_refuse_before_any_plugin() -> None:
    with stack(HOSTS, SEEING, host="other.test") as client:
        answer = client.get("/")
        assert (answer.status_code, answer.headers.get("x-plugin")) == (400, None)


def test_trusted_hosts_inside_look_at_what_plugins_left() -> None:
    changing = wasm("headers", "headers/rust.wasm", {"request": {"set": {":authority": "shop.test"}}})
    with stack(SEEING, HOSTS, host="other.test") as client:
        answer = client.get("/")
        assert (answer.status_code, answer.headers.get("x-plugin")) == (400, "ran")
    with stack(changing, HOSTS, host="other.test") as client:
        assert client.get("/").status_code == 200


def test_errors_that_the_framework_answers_pass_plugins() -> None:
    with stack(SEEING) as client:
        answer = client.get("/missing")
        assert (answer.status_code, answer.headers.get("x-plugin")) == (404, "ran")


def test_an_app_that_raised_is_answered_outside(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with stack(SEEING) as client:
        answer = client.get("/broken")
        assert (answer.status_code, answer.headers.get("x-plugin")) == (500, None)
    with stack(LOGGING) as client:
        client.get("/broken")
        told = [record.getMessage().partition("(")[0] for record in caplog.records]
    assert [name for name in told if name in ("on_log", "on_done", "on_delete")] == ["on_log", "on_done", "on_delete"]


DJANGO = """
import asyncio, gzip, json, django, httpx
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path
from asgi_wasm import WasmMiddleware

def view(request):
    return HttpResponse("hello " * 100)

urlpatterns = [path("", view)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x",
                   MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"])
django.setup()

async def main():
    conf = {"direction": "response", "text": " and more"}
    app = WasmMiddleware(get_asgi_application(), settings={"plugins": [{"name": "body", "file": BODY, "conf": conf}]})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        async with client.stream("GET", "/", headers={"accept-encoding": "gzip"}) as answer:
            body = b"".join([piece async for piece in answer.aiter_raw()])
    print(json.dumps([answer.headers.get("content-encoding"), body.endswith(b" and more")]))

asyncio.run(main())
"""


def test_djangos_own_middlewares_are_inside() -> None:
    """All of `MIDDLEWARE`: here its GZip has compressed what the plugin sees."""
    program = DJANGO.replace("BODY", repr(str(PLUGINS / "body/go.wasm")))
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == ["gzip", True]
