"""The Proxy-Wasm host for Python: an ASGI middleware that runs Envoy and APISIX plugins in front of any app."""

# First of all, since it refuses interpreters: pydantic would do so in words that help nobody.
from asgi_wasm import interpreter as _interpreter  # noqa: F401  # imported for its refusal
from asgi_wasm.asgi.properties import PluginProperties
from asgi_wasm.errors import (
    AsgiWasmError,
    EngineError,
    EngineUnavailableError,
    EventLoopError,
    ForeignFunctionError,
    InvalidModuleError,
    LinkError,
    MemoryAccessError,
    MissingExtraError,
    PluginError,
    PluginLoadError,
    PluginStartError,
    SettingsError,
    TrapError,
)
from asgi_wasm.foreign.decorator import foreign_function
from asgi_wasm.host.abi import ProxyStatus
from asgi_wasm.middleware import WasmMiddleware
from asgi_wasm.settings import Plugin, Route, Settings, Upstream
from asgi_wasm.status import status_app
from asgi_wasm.worker.status import PluginState, PluginStatus, Status
from asgi_wasm.worker.telemetry import metrics_app

__all__ = [
    "AsgiWasmError",
    "EngineError",
    "EngineUnavailableError",
    "EventLoopError",
    "ForeignFunctionError",
    "InvalidModuleError",
    "LinkError",
    "MemoryAccessError",
    "MissingExtraError",
    "Plugin",
    "PluginError",
    "PluginLoadError",
    "PluginProperties",
    "PluginStartError",
    "PluginState",
    "PluginStatus",
    "ProxyStatus",
    "Route",
    "Settings",
    "SettingsError",
    "Status",
    "TrapError",
    "Upstream",
    "WasmMiddleware",
    "foreign_function",
    "metrics_app",
    "status_app",
]
