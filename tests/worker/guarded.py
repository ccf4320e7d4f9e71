"""One app in several frameworks, with a guard before what is secret: whoever gets the secret must have met the guard.

The guard is the plugin `headers/c`, which marks each request that it sees with `x-plugin`; each handler of a secret
answers whether the mark is there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send

GUARD = Path(__file__).resolve().parents[2] / "plugins" / "headers" / "c.wasm"
SECRET, MARKED = b"secret", b"secret, guarded"
ROUTES = [
    {"uri": "/admin/*", "methods": ["GET"], "plugins": {"guard": {"conf": ""}}},
    {"uri": "/exact", "plugins": {"guard": {"conf": ""}}},
    {"uri": "/hosted", "hosts": ["example.com"], "plugins": {"guard": {"conf": ""}}},
    {"uri": "/static/private/*", "plugins": {"guard": {"conf": ""}}},
]


def _answer(marked: bool) -> str:
    return (MARKED if marked else SECRET).decode()


def guarded(app: ASGIApp) -> WasmMiddleware:
    """The app behind the guard. Static files are told from guarded ones by the response's mark."""
    return WasmMiddleware(app, settings={"plugins": [{"name": "guard", "file": GUARD}], "routes": ROUTES})


def static_folder() -> str:
    folder = Path(tempfile.mkdtemp(prefix="guarded-"))
    (folder / "private").mkdir()
    (folder / "private" / "file").write_bytes(SECRET)
    return str(folder)


def starlette() -> ASGIApp:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Host, Mount, Route, Router
    from starlette.staticfiles import StaticFiles

    async def secret(request: Request) -> PlainTextResponse:
        return PlainTextResponse(_answer("x-plugin" in request.headers))

    routes = [
        Route("/admin/secret", secret),
        Route("/exact", secret),
        Host("example.com", Router([Route("/hosted", secret)])),
        Mount("/static", StaticFiles(directory=static_folder())),
    ]
    return Starlette(routes=routes)


def fastapi() -> ASGIApp:
    from fastapi import FastAPI, Header
    from fastapi.responses import PlainTextResponse

    app = FastAPI()

    @app.get("/admin/{rest:path}")
    @app.get("/exact")
    async def secret(x_plugin: str | None = Header(None)) -> PlainTextResponse:  # FastAPI's way
        return PlainTextResponse(_answer(x_plugin is not None))

    return app


def flask() -> ASGIApp:
    from a2wsgi import WSGIMiddleware
    from flask import Flask, request

    app = Flask(__name__, static_folder=static_folder(), static_url_path="/static")

    @app.route("/admin/secret", strict_slashes=False)
    @app.route("/exact", strict_slashes=False)
    def secret() -> str:
        return _answer("X-Plugin" in request.headers)

    return WSGIMiddleware(app)  # type: ignore[arg-type,return-value]  # its own names for the same types


def django() -> ASGIApp:
    """For a process of its own: Django has one configuration."""
    from django.conf import settings
    from django.core.asgi import get_asgi_application

    settings.configure(
        SECRET_KEY="test",
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    )
    application: ASGIApp = get_asgi_application()
    return application


def _django_urls() -> Iterable[Any]:
    from django.http import HttpRequest, HttpResponse, HttpResponseNotFound
    from django.urls import path
    from django.views.decorators.http import require_GET
    from django.views.static import serve

    def secret(request: HttpRequest) -> HttpResponse:
        return HttpResponse(_answer("X-Plugin" in request.headers))

    def hosted(request: HttpRequest) -> HttpResponse:
        return secret(request) if request.get_host() == "example.com" else HttpResponseNotFound()

    folder = static_folder()

    def static(request: HttpRequest, path: str) -> HttpResponse:
        # Whole: streaming files is another matter.
        with serve(request, path, document_root=folder) as found:
            return HttpResponse(b"".join(found))

    return [
        path("admin/secret", require_GET(secret)),
        path("exact", secret),
        path("hosted", hosted),
        path("static/<path:path>", static),
    ]


def __getattr__(name: str) -> Any:
    """Django looks its routes up in a module; they are made when it is configured."""
    if name == "urlpatterns":
        return _django_urls()
    raise AttributeError(name)


FRAMEWORKS: dict[str, Callable[[], ASGIApp]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "flask": flask,
    "django": django,
}


def served() -> ASGIApp:
    """The factory that a server is given: the framework that the environment names."""
    app = guarded(FRAMEWORKS[os.environ["GUARDED_FRAMEWORK"]]())

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    return run
