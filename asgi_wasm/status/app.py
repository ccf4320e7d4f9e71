"""The status app: a page, the same as JSON, a probe, and a reload."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from socket import gethostname
from typing import Protocol, runtime_checkable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from asgi_wasm.errors import AsgiWasmError, one_line
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
_UNMEANT = (
    "Refused: send the header 'x-asgi-wasm: reload' as well, which no form of another site can:"
    " curl -X POST -H 'x-asgi-wasm: reload' URL\n"
)
# A failed one is started again by the next request.
_BAD = (PluginState.BROKEN, PluginState.AWAY)


Answer = Callable[[Request], Awaitable[Response]]


@runtime_checkable
class Middleware(Protocol):
    """What is shown: a `WasmMiddleware`."""

    def status(self) -> Status: ...

    async def reload(self) -> None: ...

    def traces(self) -> Sequence[TracedRequest]: ...

    def leave_out(self, scope: Scope) -> None: ...

    def running_on(self, method: str, url: str) -> Sequence[RunsHere] | None: ...


def middleware_of(app: Starlette) -> Middleware:
    """The one that ``app.add_middleware(WasmMiddleware)`` added, which the app makes with its first request.

    Raises `AsgiWasmError` where there is none.
    """
    part: object = app.middleware_stack
    seen: list[object] = []
    # Somebody's middleware may call anything its app, and itself.
    while part is not None and not any(part is each for each in seen):
        if isinstance(part, Middleware):
            return part
        seen.append(part)
        part = getattr(part, "app", None)
    raise AsgiWasmError(
        "the app that status_app was given has no WasmMiddleware, or served no request yet: call"
        " app.add_middleware(WasmMiddleware), or give status_app the WasmMiddleware itself"
    )


async def _without(_: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{escape(str(error))}\n", 503, headers=_HEADERS)


class _Answers:
    """What the app answers to each of its paths."""

    def __init__(self, given: Middleware | Starlette, token: str | None) -> None:
        self._given = given
        self._token = token

    @property
    def _middleware(self) -> Middleware:
        return middleware_of(self._given) if isinstance(self._given, Starlette) else self._given

    def file(self, name: str, media_type: str) -> Answer:
        """A part of the page. It holds no data: its script asks for them, with the token that is typed in."""

        async def answer(request: Request) -> Response:
            self._middleware.leave_out(request.scope)
            return FileResponse(_FILES / name, media_type=media_type, headers=_HEADERS)

        return answer

    def guarded(self, answer: Answer) -> Answer:
        """The same, for those who may see it."""

        async def asked(request: Request) -> Response:
            # Who looks on every few seconds would soon see nothing else.
            self._middleware.leave_out(request.scope)
            if may_see(request, self._token):
                return await answer(request)
            return PlainTextResponse(_REFUSED, 403, headers=_HEADERS)

        return asked

    async def as_json(self, request: Request) -> Response:
        """What the page shows of plugins and routes."""
        status = self._middleware.status()
        worker = {"host": gethostname(), "pid": os.getpid(), "asgi_wasm": version("asgi-wasm")}
        return JSONResponse({**asdict(status), "worker": worker}, headers=_HEADERS)

    async def traces(self, request: Request) -> Response:
        """The last requests, in a line each."""
        kept = self._middleware.traces()
        listed = [shown.summary(trace) for trace in kept]
        most = self._middleware.status().trace_requests
        return JSONResponse({"kept": most, "requests": listed, "times": shown.times(kept)}, headers=_HEADERS)

    async def trace(self, request: Request) -> Response:
        """One of them, with all its calls."""
        number = request.path_params["number"]
        found = next((each for each in self._middleware.traces() if each.number == number), None)
        if found is None:
            return PlainTextResponse(f"request {number} is not kept any more\n", 404, headers=_HEADERS)
        return JSONResponse(shown.in_full(found), headers=_HEADERS)

    async def running_on(self, request: Request) -> Response:
        """Which plugins a method and URL would meet."""
        asked = request.query_params
        try:
            found = self._middleware.running_on(asked.get("method", "GET"), asked.get("url", "/"))
        except ValueError:
            return PlainTextResponse("url is no URL: write https://host/path, or a path\n", 400, headers=_HEADERS)
        runs = None if found is None else [asdict(plugin) for plugin in found]
        return JSONResponse({"plugins": runs}, headers=_HEADERS)

    async def reload(self, request: Request) -> Response:
        """Read the settings anew."""
        self._middleware.leave_out(request.scope)
        if not may_see(request, self._token):
            return PlainTextResponse(_REFUSED, 403, headers=_HEADERS)
        if _MEANT not in request.headers:
            return PlainTextResponse(_UNMEANT, 403, headers=_HEADERS)
        try:
            await self._middleware.reload()
        except AsgiWasmError as error:
            return PlainTextResponse(f"{escape(one_line(error))}\n", 409, headers=_HEADERS)
        return PlainTextResponse("reloaded\n", headers=_HEADERS)

    async def health(self, request: Request) -> Response:
        """For probes, and for everybody."""
        # One comes every few seconds.
        self._middleware.leave_out(request.scope)
        ready = is_ready(self._middleware.status())
        return PlainTextResponse("ok\n" if ready else "not ready\n", 200 if ready else 503, headers=_HEADERS)


def make_app(middleware: Middleware | Starlette, token: str | None) -> Starlette:
    """The app behind `asgi_wasm.status_app`, with Starlette, which is imported for it alone."""
    if token is not None and not token.strip():
        raise ValueError("token is empty: give a secret, or leave it out for clients on this machine only")
    if not isinstance(middleware, (Starlette, Middleware)):
        raise TypeError("status_app needs a WasmMiddleware, or the Starlette or FastAPI app that it was added to")
    answers = _Answers(middleware, token)
    return Starlette(
        routes=[
            Route("/", answers.file("page.html", "text/html; charset=utf-8")),
            *(Route(f"/{name}", answers.file(name, media_type)) for name, media_type in _ASSETS.items()),
            Route("/status.json", answers.guarded(answers.as_json)),
            Route("/traces.json", answers.guarded(answers.traces)),
            Route("/traces/{number:int}.json", answers.guarded(answers.trace)),
            Route("/plugins.json", answers.guarded(answers.running_on)),
            Route("/reload", answers.reload, methods=["POST"]),
            Route("/health", answers.health),
        ],
        exception_handlers={AsgiWasmError: _without},
    )


def is_ready(status: Status) -> bool:
    """Whether plugins have started, and none whose requests would be refused for it is away."""
    closed = [plugin for plugin in status.plugins if plugin.failure_policy != FailurePolicy.FAIL_OPEN.value]
    return status.started and not any(plugin.state in _BAD for plugin in closed)
