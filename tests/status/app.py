"""An app with the status page, and plugins before it."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from asgi_wasm import WasmMiddleware, status_app
from tests.plugins.conftest import PLUGINS


async def _page(request: Request) -> Response:
    # The app has a bar of its own only where it takes time.
    await asyncio.sleep(0.002)
    return PlainTextResponse("app")


# Without the extra cel, or its package for this Python, there are no conditions.
_ON_SOME = {"when": "request.path != '/never'"} if find_spec("cel_expr_python") else {}
_inner = Starlette(routes=[Route("/{path:path}", _page)])
app = WasmMiddleware(
    _inner,
    settings={
        "trace_requests": 10,
        "plugins": [
            {"name": "headers", "file": str(PLUGINS / "headers" / "rust.wasm"), "conf": {}, "priority": 9, **_ON_SOME},
            {"name": "fault", "file": str(PLUGINS / "fault_injection" / "rust.wasm")},
        ],
        "routes": [{"uri": "/teapot", "plugins": {"fault": {"conf": {"http_status": 418}}}}],
    },
)
_inner.router.routes.insert(0, Mount("/_wasm", status_app(app)))
