"""For those who write plugins: run one in process, in front of an app, and see all that it does.

With pytest there are fixtures (`asgi_wasm.testing.pytest_plugin`); without it, make a `WasmPlugin` or its synchronous
twin. README.md beside this file tells how.
"""

from asgi_wasm.testing.app import TestApp
from asgi_wasm.testing.clock import ManualClock
from asgi_wasm.testing.exchange import Exchange, NotAnsweredError, SeenRequest
from asgi_wasm.testing.plugin import Pending, SyncWasmPlugin, WasmPlugin
from asgi_wasm.testing.records import Call, Calls, LogLine
from asgi_wasm.testing.upstreams import CalledRequest, Expected, TestUpstream, UnexpectedCallError

__all__ = [
    "Call",
    "CalledRequest",
    "Calls",
    "Exchange",
    "Expected",
    "LogLine",
    "ManualClock",
    "NotAnsweredError",
    "Pending",
    "SeenRequest",
    "SyncWasmPlugin",
    "TestApp",
    "TestUpstream",
    "UnexpectedCallError",
    "WasmPlugin",
]
