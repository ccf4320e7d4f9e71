"""The plugin list and what goes with it, from arguments, environment and files, checked, as plain specs.

Importing this reads nothing; `load` does.
"""

from asgi_wasm.settings.load import load
from asgi_wasm.settings.models import Plugin, Route, Settings, Upstream

__all__ = ["Plugin", "Route", "Settings", "Upstream", "load"]
