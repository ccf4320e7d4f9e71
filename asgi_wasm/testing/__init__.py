"""For those who write plugins: run one in process, in front of an app, and see all that it does.

With pytest there are fixtures (`asgi_wasm.testing.pytest_plugin`); without it, make a `WasmPlugin` or its synchronous
twin. README.md beside this file tells how.

A name is looked up when it is first asked for: pytest imports this package wherever it is installed.
"""

import typing as _typing

from asgi_wasm.lazily import names_in as _names_in

if _typing.TYPE_CHECKING:
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

if not _typing.TYPE_CHECKING:
    # Not for type checkers: to them, any name would be there.
    _PLACES = {
        "Call": "asgi_wasm.testing.records",
        "CalledRequest": "asgi_wasm.testing.upstreams",
        "Calls": "asgi_wasm.testing.records",
        "Exchange": "asgi_wasm.testing.exchange",
        "Expected": "asgi_wasm.testing.upstreams",
        "LogLine": "asgi_wasm.testing.records",
        "ManualClock": "asgi_wasm.testing.clock",
        "NotAnsweredError": "asgi_wasm.testing.exchange",
        "Pending": "asgi_wasm.testing.plugin",
        "SeenRequest": "asgi_wasm.testing.exchange",
        "SyncWasmPlugin": "asgi_wasm.testing.plugin",
        "TestApp": "asgi_wasm.testing.app",
        "TestUpstream": "asgi_wasm.testing.upstreams",
        "UnexpectedCallError": "asgi_wasm.testing.upstreams",
        "WasmPlugin": "asgi_wasm.testing.plugin",
    }
    __getattr__, __dir__ = _names_in(globals(), _PLACES)
