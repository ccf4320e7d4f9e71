"""FastAPI in a container: what Kubernetes asks, and an API behind a plugin. See `Dockerfile` and `kubernetes.yaml`."""

import os

from fastapi import FastAPI

from asgi_wasm import WasmMiddleware, status_app

api = FastAPI()


@api.get("/live")
async def live() -> dict[str, bool]:
    """That the event loop runs. No plugin is asked: one that is broken is not mended by a restart."""
    return {"alive": True}


@api.get("/api/hello")
async def hello() -> dict[str, str]:
    """What the service is for."""
    return {"hello": "world"}


app = WasmMiddleware(api)
# `/_wasm/health` is open, the rest of it is for who has the token.
api.mount("/_wasm", status_app(app, token=os.environ.get("STATUS_TOKEN")))
