"""What `test_multiprocess` serves: an app that says which worker it is in, behind a plugin, and its metrics."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from asgi_wasm import WasmMiddleware, metrics_app
from tests.plugins.conftest import PLUGINS


async def worker(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(os.getpid()))


app = Starlette(routes=[Route("/", worker), Mount("/metrics", metrics_app)])
app.add_middleware(
    WasmMiddleware,
    settings={
        "plugins": [{"name": "counter", "file": PLUGINS / "counter/assemblyscript.wasm"}],
        # The scrapes themselves run through no plugin.
        "routes": [{"uri": "/", "plugins": {"counter": {"conf": "c"}}}],
        "metrics": True,
    },
)
