"""The status app, mounted behind the very plugins that it shows."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_wasm import WasmMiddleware, status_app
from asgi_wasm.fetching.cache import FetchCache
from asgi_wasm.status.guard import may_see
from tests.driving import http_scope
from tests.fetching.site import digest_of
from tests.plugins.conftest import PLUGINS

HERE = ("127.0.0.1", 50000)
RUST = PLUGINS / "fault_injection" / "rust.wasm"
FAULT = str(RUST)


async def serve(
    body: Callable[[httpx.AsyncClient, WasmMiddleware], Awaitable[None]],
    settings: Any = None,
    *,
    token: str | None = None,
    client: tuple[str, int] = HERE,
    base: str = "http://127.0.0.1:8000",
) -> None:
    """Run ``body`` with a client of an app that has the status app below ``/_wasm``."""
    secret = '{"http_status": 200, "percentage": 0, "body": "secret"}'
    plugins = [{"name": "p", "file": FAULT, "conf": secret}]

    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("app"))])
    middleware = WasmMiddleware(app, settings=settings or {"plugins": plugins})
    app.router.routes.append(Mount("/_wasm", status_app(middleware, token=token)))
    async with (
        middleware,
        httpx.AsyncClient(transport=httpx.ASGITransport(middleware, client=client), base_url=base) as http,
    ):
        await body(http, middleware)


async def test_the_page_and_the_same_as_json() -> None:
    async def body(http: httpx.AsyncClient, middleware: WasmMiddleware) -> None:
        page = await http.get("/_wasm/")
        assert page.status_code == 200 and "<!doctype html>" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        for name, kind in (("page.js", "text/javascript"), ("page.css", "text/css")):
            asset = await http.get(f"/_wasm/{name}")
            assert asset.status_code == 200 and asset.headers["content-type"].startswith(kind)
            assert f'"{name}"' in page.text
        shown = await http.get("/_wasm/status.json")
        (plugin,) = shown.json()["plugins"]
        assert shown.json()["started"] is True
        worker = shown.json()["worker"]
        assert worker.pop("pid") == os.getpid() and worker.keys() == {"host", "asgi_wasm"}
        assert (plugin["name"], plugin["state"], plugin["abi_version"]) == ("p", "running", "0.2.1")
        assert plugin["memory"] > 0 and plugin["streams"] == 1
        assert "secret" not in shown.text
        assert (await http.get("/_wasm/health")).text == "ok\n"

    await serve(body)


@pytest.mark.parametrize(
    ("client", "base", "headers", "status"),
    [
        (HERE, "http://localhost:8000", {}, 200),
        (("::1", 1), "http://[::1]:8000", {}, 200),
        (("127.9.9.9", 1), "http://127.0.0.1", {}, 200),
        (("192.0.2.1", 1), "http://127.0.0.1", {}, 403),
        (("testclient", 1), "http://127.0.0.1", {}, 403),
        # A proxy on this machine; a web page that leads its own name here.
        (HERE, "http://127.0.0.1", {"x-forwarded-for": "192.0.2.1"}, 403),
        (HERE, "http://127.0.0.1", {"forwarded": "for=192.0.2.1"}, 403),
        (HERE, "http://127.0.0.1", {"x-forwarded-proto": "https"}, 403),
        (HERE, "http://127.0.0.1", {"X-Client-IP": "192.0.2.1"}, 403),
        (HERE, "http://evil.test", {}, 403),
        (HERE, "http://127.0.0.1.evil.test", {}, 403),
    ],
)
async def test_closed_to_all_but_this_machine(
    client: tuple[str, int], base: str, headers: dict[str, str], status: int
) -> None:
    async def body(http: httpx.AsyncClient, middleware: WasmMiddleware) -> None:
        shown = await http.get("/_wasm/status.json", headers=headers)
        assert shown.status_code == status
        assert ("plugins" in shown.text) == (status == 200)
        reloaded = await http.post("/_wasm/reload", headers={**headers, "x-asgi-wasm": "1"})
        assert reloaded.status_code == status
        assert (await http.get("/_wasm/health", headers=headers)).status_code == 200

    await serve(body, client=client, base=base)


@pytest.mark.parametrize(("version", "allowed"), [("1.0", False), ("1.1", True), ("2", True)])
def test_closed_to_what_nginx_passes_on_without_a_word(version: str, allowed: bool) -> None:
    """By default: no header tells of it, and the host is the one that it passes requests to."""
    scope = http_scope(http_version=version, client=HERE) | {"headers": [(b"host", b"127.0.0.1:8000")]}
    assert may_see(Request(scope), None) is allowed
    assert may_see(Request({**scope, "headers": [(b"authorization", b"Bearer sesame")]}), "sesame")


@pytest.mark.parametrize(
    ("given", "status"), [(None, 403), ("Bearer wrong", 403), ("sesame", 403), ("Bearer sesame", 200)]
)
async def test_a_token(given: str | None, status: int) -> None:
    async def body(http: httpx.AsyncClient, middleware: WasmMiddleware) -> None:
        headers = {} if given is None else {"authorization": given}
        assert (await http.get("/_wasm/status.json", headers=headers)).status_code == status
        reloaded = await http.post("/_wasm/reload", headers={**headers, "x-asgi-wasm": "1"})
        assert reloaded.status_code == status

    # From elsewhere; and being here does not help without it.
    await serve(body, token="sesame", client=("192.0.2.1", 1), base="http://any.test")
    await serve(body, token="sesame")


def test_an_empty_token_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="token is empty"):
        status_app(WasmMiddleware(Starlette()), token=" ")


async def test_reload(tmp_path: Path) -> None:
    settings = tmp_path / "s.yaml"
    plugin = {"name": "p", "file": FAULT, "conf": {"http_status": 418, "percentage": 0}}
    settings.write_text(json.dumps({"plugins": [plugin]}))

    async def body(http: httpx.AsyncClient, middleware: WasmMiddleware) -> None:
        before = (await http.get("/_wasm/status.json")).json()["plugins"][0]["conf_sha256"]
        # Not what another site's form can send.
        unmeant = await http.post("/_wasm/reload")
        assert unmeant.status_code == 403 and "send the header 'x-asgi-wasm: reload'" in unmeant.text
        assert (await http.get("/_wasm/reload")).status_code == 405
        settings.write_text(json.dumps({"plugins": [{**plugin, "conf": {"percentage": 0}}]}))
        assert (await http.post("/_wasm/reload", headers={"x-asgi-wasm": "1"})).text == "reloaded\n"
        assert (await http.get("/_wasm/status.json")).json()["plugins"][0]["conf_sha256"] != before
        settings.write_text("plugins: 1")
        refused = await http.post("/_wasm/reload", headers={"x-asgi-wasm": "1"})
        assert refused.status_code == 409 and "s.yaml: plugins" in refused.text
        settings.write_text("pluginz: 1\nrouts: 1")
        several = (await http.post("/_wasm/reload", headers={"x-asgi-wasm": "1"})).text
        assert "did you mean 'plugins'?; " in several and "\\n" not in several

    await serve(body, str(settings))


@pytest.mark.parametrize(("policy", "status"), [("fail_closed", 503), ("fail_open", 200)])
async def test_health_of_a_plugin_that_is_broken(policy: str, status: int) -> None:
    """A server without lifespan starts with it all the same."""
    broken = {"name": "b", "file": "none.wasm", "failure_policy": policy}

    middleware = WasmMiddleware(Starlette(), settings={"plugins": [broken]})
    shown = status_app(middleware)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(shown), base_url="http://localhost") as http:
        assert (await http.get("/health")).status_code == 503
        await httpx.AsyncClient(transport=httpx.ASGITransport(middleware), base_url="http://localhost").get("/")
        assert (await http.get("/health")).status_code == status
    await middleware.stop()


async def test_who_looks_on_is_not_among_the_last_requests() -> None:
    plugin = {"name": "p", "file": FAULT, "conf": {"http_status": 418, "percentage": 0}}

    async def body(http: httpx.AsyncClient, middleware: WasmMiddleware) -> None:
        await http.get("/")
        for name in (
            *("", "page.js", "page.css", "status.json", "plugins.json?url=/", "traces.json", "traces/1.json", "health"),
        ):
            assert (await http.get(f"/_wasm/{name}")).status_code == 200, name
        shown = (await http.get("/_wasm/traces.json")).json()
        assert (shown["kept"], [each["target"] for each in shown["requests"]]) == (20, ["/"])
        assert {each["plugin"] for each in shown["times"]} == {"p"}
        assert (await http.get("/_wasm/traces/99.json")).status_code == 404

    await serve(body, {"plugins": [plugin], "trace_requests": 20})


async def test_of_what_each_plugin_is_made_and_on_what_it_runs(tmp_path: Path) -> None:
    """Also of one that was fetched, whose file has no path."""
    content = RUST.read_bytes()
    digest = digest_of(content)
    FetchCache(tmp_path).put(digest, content)
    fetched = {"name": "fetched", "file": f"https://registry.test/p.wasm#sha256={digest}", "conf": {"percentage": 0}}
    watching = {"name": "watching", "file": FAULT, "conf": {"http_status": 403}, "mode": "observe"}
    if find_spec("cel_expr_python"):
        watching["when"] = "request.path == '/'"

    async def body(http: httpx.AsyncClient, middleware: WasmMiddleware) -> None:
        assert (await http.get("/")).text == "app"
        first, second = (await http.get("/_wasm/status.json")).json()["plugins"]
        assert (first["file"], first["language"]) == (fetched["file"], "Rust")
        assert first["sdk"].startswith("proxy-wasm 0.2") and first["mode"] == "enforce" and first["when"] == ""
        assert (second["mode"], second["when"]) == ("observe", watching.get("when", ""))
        # Where it has no condition, it runs on the status page's own request too.
        assert sum(second["observed"].values()) == (1 if second["when"] else 2)
        assert (middleware.status().plugins[0].language, second["language"]) == ("Rust", "Rust")

    await serve(body, {"cache_dir": str(tmp_path), "plugins": [fetched, watching]})


@pytest.mark.parametrize("first", [False, True])
async def test_of_an_app_that_the_middleware_was_added_to(first: bool) -> None:
    """`add_middleware` gives no middleware to hand on, so the app is taken; it may be mounted before or after."""
    app = Starlette()
    if first:
        app.add_middleware(WasmMiddleware, plugins=[{"name": "p", "file": FAULT, "conf": '{"percentage": 0}'}])
    app.mount("/_wasm", status_app(app))
    if not first:
        app.add_middleware(WasmMiddleware, plugins=[{"name": "p", "file": FAULT, "conf": '{"percentage": 0}'}])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app, client=HERE), base_url="http://127.0.0.1") as http:
        assert (await http.get("/_wasm/health")).text == "ok\n"
        assert [each["name"] for each in (await http.get("/_wasm/status.json")).json()["plugins"]] == ["p"]
        reloaded = await http.post("/_wasm/reload", headers={"x-asgi-wasm": "reload"})
        assert (reloaded.status_code, reloaded.text) == (200, "reloaded\n")


class OwnApp:
    """A middleware whose `app` is none that follows it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self._next = self, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._next(scope, receive, send)


@pytest.mark.parametrize("others", [[], [Middleware(OwnApp)]])
async def test_of_an_app_without_the_middleware(others: list[Middleware]) -> None:
    app = Starlette(middleware=others)
    app.mount("/_wasm", status_app(app))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app, client=HERE), base_url="http://127.0.0.1") as http:
        for path in ("health", "status.json", "traces.json"):
            answered = await http.get(f"/_wasm/{path}")
            assert answered.status_code == 503
            assert answered.text.endswith(
                "call app.add_middleware(WasmMiddleware), or give status_app the WasmMiddleware itself\n"
            )
    with pytest.raises(TypeError, match="status_app needs a WasmMiddleware"):
        status_app(object())  # type: ignore[arg-type]
