"""FastAPI behind a fault-injection plugin.

In the checkout's root: ``uvicorn sample_apps.fastapi_app.main:app``.
"""

import logging
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Request

from asgi_wasm import PluginProperties, WasmMiddleware

logging.basicConfig(level=logging.INFO)

app = FastAPI()
app.add_middleware(WasmMiddleware, settings=Path(__file__).with_name("asgi-wasm.yaml"))


def plugin_properties(request: Request) -> PluginProperties:
    """What plugins kept with ``set_property`` on this request."""
    properties: PluginProperties = request.scope["asgi_wasm"]
    return properties


@app.get("/app")
async def untouched(properties: Annotated[PluginProperties, Depends(plugin_properties)]) -> dict[str, str]:
    """No plugin runs here."""
    return {"from": "the app", "user": properties.text("user", "nobody")}
