"""Each recipe of `sample_apps/COOKBOOK.md`, with the blocks as they stand there."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from asgi_wasm import WasmMiddleware
from tests.extras import LMDB_MISSING, why_not
from tests.serving import ROOT, ask_until_all_workers_answer, dead_port, free_port, launch, serve
from tests.waiting import PATIENT_WRITERS

PAPER = (ROOT / "sample_apps" / "COOKBOOK.md").read_text("utf-8")
KEY = "a key of at least thirty-two bytes"
DENIED = "<script>alert(1)</script>"


def block(name: str) -> str:
    """The code under ``<!-- recipe: NAME -->``."""
    found = re.search(rf"<!-- recipe: {name} -->\n```\w+\n(.*?)```", PAPER, re.DOTALL)
    assert found is not None
    return found[1]


def settings(name: str, **changes: Any) -> dict[str, Any]:
    """A recipe's settings; plugins are found from any folder."""
    return {**yaml.safe_load(block(name).replace("plugins/", f"{ROOT}/plugins/")), **changes}


async def echo(request: Request) -> Response:
    told = {"path": request.url.path, "size": len(await request.body())}
    names = ("x-user", "x-flags")
    plugins = request.scope["asgi_wasm"].text("user", "")
    return JSONResponse({**told, **{name: request.headers.get(name) for name in names}, "property": plugins})


async def page(_request: Request) -> Response:
    return PlainTextResponse("<p>hello</p>")


APP = Starlette(routes=[Route("/page", page), Route("/{path:path}", echo, methods=["GET", "POST"])])


@asynccontextmanager
async def client(given: dict[str, Any]) -> AsyncIterator[httpx.AsyncClient]:
    async with WasmMiddleware(APP, settings=given) as app:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as http:
            yield http


def in_process(given: dict[str, Any], test: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with client(given) as http:
            await test(http)

    asyncio.run(main())


def test_block() -> None:
    async def test(http: httpx.AsyncClient) -> None:
        assert (await http.get("/shop")).status_code == 200
        for path in ("/internal/x", "/internal/", "//internal/x", "/a/%2e%2e/internal/x", "/internal"):
            answer = await http.get(f"http://shop.test{path}")
            assert (path, answer.status_code, answer.text) == (path, 403, "not from here")

    in_process(settings("block"), test)


def test_allow() -> None:
    async def test(http: httpx.AsyncClient) -> None:
        assert [(await http.get(path)).status_code for path in ("/", "/shop/1", "/admin")] == [200, 200, 404]

    in_process(settings("allow"), test)


def test_jwt(tmp_path: Path) -> None:
    if reason := why_not("jwt"):
        pytest.skip(reason)
    import jwt

    (tmp_path / "auth.py").write_text(block("auth"), "utf-8")
    good = jwt.encode({"sub": "alice", "exp": 4_000_000_000}, KEY, "HS256")
    forged = jwt.encode({"sub": "alice", "exp": 4_000_000_000}, f"not {KEY}", "HS256")
    old = jwt.encode({"sub": "alice", "exp": 1}, KEY, "HS256")

    async def test(http: httpx.AsyncClient) -> None:
        passed = await http.get("/", headers={"authorization": f"Bearer {good}", "x-user": "root"})
        assert passed.status_code == 200
        assert (passed.json()["x-user"], passed.json()["property"]) == ("alice", "alice")
        for token in (f"Bearer {forged}", f"Bearer {old}", f"Basic {good}", "nonsense"):
            assert (await http.get("/", headers={"authorization": token})).status_code == 401
        refused = await http.get("/")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")

    with serve("auth:app", cwd=tmp_path, env={"JWT_KEY": KEY}) as auth:
        given = settings("jwt", upstreams={"auth": auth.url})
        # The recipe's is for a machine that has time.
        given["plugins"][0]["conf"]["timeout_ms"] = 60_000
        in_process(given, test)


def test_jwt_fails_closed() -> None:
    async def test(http: httpx.AsyncClient) -> None:
        assert (await http.get("/", headers={"authorization": "Bearer x"})).status_code == 503

    with dead_port() as port:
        in_process(settings("jwt", upstreams={"auth": f"http://127.0.0.1:{port}"}), test)


RATED = (
    PATIENT_WRITERS
    + """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from asgi_wasm import WasmMiddleware
import os

async def hello(request):
    return JSONResponse(os.getpid())

app = WasmMiddleware(Starlette(routes=[Route("/", hello)]))
"""
)


@pytest.mark.skipif(bool(LMDB_MISSING), reason=LMDB_MISSING)
def test_rate_over_workers(tmp_path: Path) -> None:
    given = settings("rate", shared_data=f"lmdb://{tmp_path / 'state'}")
    (tmp_path / "asgi-wasm.yaml").write_text(yaml.safe_dump(given), "utf-8")
    (tmp_path / "main.py").write_text(RATED, "utf-8")
    with serve("main:app", "--workers", "2", cwd=tmp_path) as server, httpx.Client(base_url=server.url) as http:
        others = ({"x-api-key": f"other {number}"} for number in count())
        ask_until_all_workers_answer(server.url, 2, lambda answer: answer.text, lambda: next(others), server.log)
        for key in ("mine", "mine in the next hour"):
            began = time.time() // 3600
            # Each connection may go to another worker.
            no_keep_alive = {"x-api-key": key, "connection": "close"}
            with ThreadPoolExecutor(8) as pool:
                answers = [*pool.map(lambda _, each=no_keep_alive: http.get("/", headers=each), range(60))]
            if time.time() // 3600 == began:
                break
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 55
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert 0 < int(refused.headers["retry-after"]) <= 3600


@pytest.mark.skipif(bool(why_not("redis")), reason=why_not("redis"))
def test_rate_while_the_store_is_away() -> None:
    """The Rust SDK has the plugin trap at a read that is refused, and the recipe says what comes of that."""

    async def test(http: httpx.AsyncClient) -> None:
        assert [(await http.get("/", headers={"x-api-key": "mine"})).status_code for _ in range(8)] == [200] * 8

    with dead_port() as port:
        in_process(settings("rate", shared_data=f"redis://127.0.0.1:{port}"), test)


DJANGO = """
import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path

def view(request):
    files = {name: file.size for name, file in request.FILES.items()}
    return JsonResponse({"post": dict(request.POST), "files": files})

urlpatterns = [path("", view), path("upload/", view)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", MIDDLEWARE=[], STATIC_URL="static/",
                   INSTALLED_APPS=["django.contrib.staticfiles"], STATICFILES_DIRS=["assets"])
django.setup()
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from asgi_wasm import WasmMiddleware

application = WasmMiddleware(ASGIStaticFilesHandler(get_asgi_application()))
"""


def test_waf_before_django(tmp_path: Path) -> None:
    (tmp_path / "asgi-wasm.yaml").write_text(yaml.safe_dump(settings("waf")), "utf-8")
    (tmp_path / "shop.py").write_text(DJANGO, "utf-8")
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "app.css").write_text("/* css */", "utf-8")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "shop:application", "--port", str(port)]
    large = b"x" * 3_000_000
    with launch(command, port, cwd=tmp_path) as server, httpx.Client(base_url=server.url) as http:
        assert http.get("/").status_code == 200
        assert http.get("/", params={"q": DENIED}).status_code == 403
        assert http.post("/", data={"text": DENIED.upper()}).status_code == 403
        assert http.post("/", data={"text": "fine"}).json()["post"] == {"text": ["fine"]}
        assert http.get("/static/app.css", params={"q": DENIED}).text == "/* css */"
        uploaded = http.post("/upload/", files={"file": ("large.bin", large)}, data={"note": "mine"})
        assert uploaded.json() == {"post": {"note": ["mine"]}, "files": {"file": len(large)}}
        assert http.post("/upload/", files={"file": ("a.html", DENIED.encode())}).status_code == 403
        assert http.post("/", content=large).status_code == 413


def test_body() -> None:
    async def test(http: httpx.AsyncClient) -> None:
        answer = await http.get("/page")
        assert answer.text == "<p>hello</p><!-- from the staging system -->"
        assert answer.headers["content-length"] == str(len(answer.content))
        assert (await http.get("/other")).json()["path"] == "/other"

    in_process(settings("body"), test)


def test_flags() -> None:
    token = {"authorization": "Bearer change me"}

    async def on(http: httpx.AsyncClient, user: str) -> set[str]:
        told = (await http.get("/", headers={"x-user": user, "x-flags": "forged"})).json()["x-flags"]
        return set(told.split(",")) - {""}

    async def test(http: httpx.AsyncClient) -> None:
        assert await on(http, "a") == set()
        assert (await http.put("/_flags", json={"x": 100})).status_code == 403
        assert (await http.put("/_flags", content=b"[]", headers=token)).status_code == 400
        flags = {"new-checkout": 25, "dark-mode": 100, "gone": 0}
        assert (await http.put("/_flags", json=flags, headers=token)).json() == flags
        assert (await http.get("/_flags")).json() == flags
        users = {f"user-{number}": await on(http, f"user-{number}") for number in range(400)}
        assert all("dark-mode" in found and "gone" not in found for found in users.values())
        chosen = [user for user, found in users.items() if "new-checkout" in found]
        # A quarter; the users are always the same, so there is no chance in it.
        assert 70 <= len(chosen) <= 130
        for user in chosen[:5]:
            assert "new-checkout" in await on(http, user)

    in_process(settings("flags", shared_data="memory://"), test)
