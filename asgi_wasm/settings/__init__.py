"""The plugin list and what goes with it, from arguments, environment and files, checked, as plain specs.

Importing this reads nothing; `load` does.
"""

from asgi_wasm.settings.limits import Limits, PluginLimits
from asgi_wasm.settings.load import load
from asgi_wasm.settings.metrics import Metrics, TagRule
from asgi_wasm.settings.models import Plugin, Settings
from asgi_wasm.settings.routes import Route, RoutePlugin
from asgi_wasm.settings.upstreams import Upstream

__all__ = [
    "Limits",
    "Metrics",
    "Plugin",
    "PluginLimits",
    "Route",
    "RoutePlugin",
    "Settings",
    "TagRule",
    "Upstream",
    "load",
]
