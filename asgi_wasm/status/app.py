"""The status app: a page, the same as JSON, a probe, and a reload."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from asgi_wasm.errors import AsgiWasmError
from asgi_wasm.logs import escape
from asgi_wasm.services.traces.requests import TracedRequest
from asgi_wasm.specs import FailurePolicy
from asgi_wasm.status import shown
from asgi_wasm.status.guard import may_see
from asgi_wasm.worker.status import PluginState, RunsHere, Status

_FILES = Path(__file__).resolve().parent
_ASSETS = {
    **dict.fromkeys(("page.js", "show.js", "waterfall.js"), "text/javascript"),
    "page.css": "text/css",
}
# Nothing from elsewhere, and nobody's frame.
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
# A web page of another origin cannot send this header without asking first.
_MEANT = "x-asgi-wasm"
_REFUSED = (
    "Refused: this shows only to whoever sends 'Authorization: Bearer TOKEN' with the token that status_app was given,"
    " or, where it was given none, to clients on this machine that no proxy has passed on.\n"
)
# A failed one is started again by the next request.
_BAD = (PluginState.BROKEN, PluginState.AWAY)


class Middleware(Protocol):
    """What is shown: a `WasmMiddleware`."""

    def status(self) -> Status: ...

    async def reload(self) -> None: ...

    def traces(self) -> Sequence[TracedRequest]: ...

    def leave_out(self, scope: Scope) -> None: ...

    def running_on(self, method: str, url: str) -> Sequence[RunsHere] | None: ...


def make_app(middleware: Middleware, token: str | None) -> Starlette:
    """The app behind `asgi_wasm.status_app`, with Starlette, which is imported for it alone."""
    if token is not None and not token.strip():
        raise ValueError("token is empty: give a secret, or leave it out for clients on this machine only")

    async def page(request: Request) -> Response:
        # It holds no data: the data are asked for by its script, with the token that is typed in.
        middleware.leave_out(request.scope)
        return FileResponse(_FILES / "page.html", media_type="text/html; charset=utf-8", headers=_HEADERS)

    # By digest: of what a plugin is made is read from its file once.
    languages: dict[str, tuple[str, str]] = {}

    def guarded(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def asked(request: Request) -> Response:
            # Who looks on every few seconds would soon see nothing else.
            middleware.leave_out(request.scope)
            if may_see(request, token):
                return await answer(request)
            return PlainTextResponse(_REFUSED, 403, headers=_HEADERS)

        return asked

    async def as_json(request: Request) -> Response:
        status = middleware.status()
        for plugin in status.plugins:
            if plugin.sha256 and plugin.sha256 not in languages:
                languages[plugin.sha256] = await to_thread(shown.made_of, plugin.file, plugin.sha256)
        return JSONResponse(shown.plugins(status, languages), headers=_HEADERS)

    async def traces(request: Request) -> Response:
        kept = middleware.traces()
        listed = [shown.summary(trace) for trace in kept]
        most = middleware.status().trace_requests
        return JSONResponse({"kept": most, "requests": listed, "times": shown.times(kept)}, headers=_HEADERS)

    async def trace(request: Request) -> Response:
        number = request.path_params["number"]
        found = next((each for each in middleware.traces() if each.number == number), None)
        if found is None:
            return PlainTextResponse(f"request {number} is not kept any more\n", 404, headers=_HEADERS)
        return JSONResponse(shown.in_full(found), headers=_HEADERS)

    async def running_on(request: Request) -> Response:
        asked = request.query_params
        try:
            found = middleware.running_on(asked.get("method", "GET"), asked.get("url", "/"))
        except ValueError:
            return PlainTextResponse("url is no URL: write https://host/path, or a path\n", 400, headers=_HEADERS)
        runs = None if found is None else [asdict(plugin) for plugin in found]
        return JSONResponse({"plugins": runs}, headers=_HEADERS)

    async def reload(request: Request) -> Response:
        if not may_see(request, token) or _MEANT not in request.headers:
            return PlainTextResponse(_REFUSED, 403, headers=_HEADERS)
        try:
            await middleware.reload()
        except AsgiWasmError as error:
            return PlainTextResponse(f"{escape(str(error))}\n", 409, headers=_HEADERS)
        return PlainTextResponse("reloaded\n", headers=_HEADERS)

    async def health(request: Request) -> Response:
        ready = is_ready(middleware.status())
        return PlainTextResponse("ok\n" if ready else "not ready\n", 200 if ready else 503, headers=_HEADERS)

    return Starlette(
        routes=[
            Route("/", page),
            *(Route(f"/{name}", _asset(name, middleware)) for name in _ASSETS),
            Route("/status.json", guarded(as_json)),
            Route("/traces.json", guarded(traces)),
            Route("/traces/{number:int}.json", guarded(trace)),
            Route("/plugins.json", guarded(running_on)),
            Route("/reload", reload, methods=["POST"]),
            Route("/health", health),
        ]
    )


def _asset(name: str, middleware: Middleware) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        middleware.leave_out(request.scope)
        return FileResponse(_FILES / name, media_type=_ASSETS[name], headers=_HEADERS)

    return answer


def is_ready(status: Status) -> bool:
    """Whether plugins have started, and none whose requests would be refused for it is away."""
    closed = [plugin for plugin in status.plugins if plugin.failure_policy != FailurePolicy.FAIL_OPEN.value]
    return status.started and not any(plugin.state in _BAD for plugin in closed)
