"""The Proxy-Wasm host for Python: an ASGI middleware that runs Envoy and APISIX plugins in front of any app.

A public name is looked up when it is first asked for: who imports this package for one of them, or who has installed it
and runs pytest, which looks at its entry point, does not wait for all of the host (PEP 562).
"""

import typing as _typing

# First of all, since it refuses interpreters: pydantic would do so in words that help nobody.
from asgi_wasm import interpreter as _interpreter  # noqa: F401  # imported for its refusal
from asgi_wasm.lazily import names_in as _names_in

if _typing.TYPE_CHECKING:
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

if not _typing.TYPE_CHECKING:
    # Not for type checkers: to them, any name would be there.
    # Where each public name is.
    _PLACES = {
        "AsgiWasmError": "asgi_wasm.errors",
        "EngineError": "asgi_wasm.errors",
        "EngineUnavailableError": "asgi_wasm.errors",
        "EventLoopError": "asgi_wasm.errors",
        "ForeignFunctionError": "asgi_wasm.errors",
        "InvalidModuleError": "asgi_wasm.errors",
        "LinkError": "asgi_wasm.errors",
        "MemoryAccessError": "asgi_wasm.errors",
        "MissingExtraError": "asgi_wasm.errors",
        "PluginError": "asgi_wasm.errors",
        "PluginLoadError": "asgi_wasm.errors",
        "PluginStartError": "asgi_wasm.errors",
        "SettingsError": "asgi_wasm.errors",
        "TrapError": "asgi_wasm.errors",
        "Plugin": "asgi_wasm.settings",
        "Route": "asgi_wasm.settings",
        "Settings": "asgi_wasm.settings",
        "Upstream": "asgi_wasm.settings",
        "PluginProperties": "asgi_wasm.asgi.properties",
        "PluginState": "asgi_wasm.worker.status",
        "PluginStatus": "asgi_wasm.worker.status",
        "Status": "asgi_wasm.worker.status",
        "ProxyStatus": "asgi_wasm.host.abi",
        "WasmMiddleware": "asgi_wasm.middleware",
        "foreign_function": "asgi_wasm.foreign.decorator",
        "metrics_app": "asgi_wasm.worker.telemetry",
        "status_app": "asgi_wasm.status",
    }
    __getattr__, __dir__ = _names_in(globals(), _PLACES)
