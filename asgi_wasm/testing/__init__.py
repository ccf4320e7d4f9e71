"""For those who write plugins: run one in process, in front of an app, and see all that it does.

With pytest there are fixtures (`asgi_wasm.testing.pytest_plugin`); without it, make a `WasmPlugin`, a `WasmHost` of
several, or a synchronous twin. README.md beside this file tells how.

A name is looked up when it is first asked for: pytest imports this package wherever it is installed.
"""

import typing as _typing

from asgi_wasm.lazily import names_in as _names_in

if _typing.TYPE_CHECKING:
    from asgi_wasm.engines.null import GuestTrap
    from asgi_wasm.host.abi import AbiVersion, BufferType, LogLevel, MapType, MetricType, ProxyStatus, StreamType
    from asgi_wasm.testing.app import TestApp
    from asgi_wasm.testing.clock import ManualClock
    from asgi_wasm.testing.connection import Connection, Response
    from asgi_wasm.testing.driving import NotAnsweredError
    from asgi_wasm.testing.exchange import Exchange, SeenRequest
    from asgi_wasm.testing.guests.guests import Action, Guest
    from asgi_wasm.testing.guests.hostcalls import HostcallRefusedError, Hostcalls
    from asgi_wasm.testing.middleware import TestMiddleware
    from asgi_wasm.testing.patience import NotSettledError
    from asgi_wasm.testing.plugin import (
        Pending,
        SyncConnection,
        SyncWasmHost,
        SyncWasmPlugin,
        WasmHost,
        WasmPlugin,
    )
    from asgi_wasm.testing.records import Call, Calls, LogLine
    from asgi_wasm.testing.unexpected import UnexpectedCallError
    from asgi_wasm.testing.upstreams.called import CalledRequest
    from asgi_wasm.testing.upstreams.grpc import ExpectedGrpc, GrpcStream, TestGrpc
    from asgi_wasm.testing.upstreams.upstreams import Expected, Reply, TestUpstream
    from asgi_wasm.testing.views import PluginView

__all__ = [
    "AbiVersion",
    "Action",
    "BufferType",
    "Call",
    "CalledRequest",
    "Calls",
    "Connection",
    "Exchange",
    "Expected",
    "ExpectedGrpc",
    "GrpcStream",
    "Guest",
    "GuestTrap",
    "HostcallRefusedError",
    "Hostcalls",
    "LogLevel",
    "LogLine",
    "ManualClock",
    "MapType",
    "MetricType",
    "NotAnsweredError",
    "NotSettledError",
    "Pending",
    "PluginView",
    "ProxyStatus",
    "Reply",
    "Response",
    "SeenRequest",
    "StreamType",
    "SyncConnection",
    "SyncWasmHost",
    "SyncWasmPlugin",
    "TestApp",
    "TestGrpc",
    "TestMiddleware",
    "TestUpstream",
    "UnexpectedCallError",
    "WasmHost",
    "WasmPlugin",
]

if not _typing.TYPE_CHECKING:
    # Not for type checkers: to them, any name would be there.
    _PLACES = {
        "AbiVersion": "asgi_wasm.host.abi",
        "Action": "asgi_wasm.testing.guests.guests",
        "BufferType": "asgi_wasm.host.abi",
        "Call": "asgi_wasm.testing.records",
        "CalledRequest": "asgi_wasm.testing.upstreams.called",
        "Calls": "asgi_wasm.testing.records",
        "Connection": "asgi_wasm.testing.connection",
        "Exchange": "asgi_wasm.testing.exchange",
        "Expected": "asgi_wasm.testing.upstreams.upstreams",
        "ExpectedGrpc": "asgi_wasm.testing.upstreams.grpc",
        "GrpcStream": "asgi_wasm.testing.upstreams.grpc",
        "Guest": "asgi_wasm.testing.guests.guests",
        "GuestTrap": "asgi_wasm.engines.null",
        "HostcallRefusedError": "asgi_wasm.testing.guests.hostcalls",
        "Hostcalls": "asgi_wasm.testing.guests.hostcalls",
        "LogLevel": "asgi_wasm.host.abi",
        "LogLine": "asgi_wasm.testing.records",
        "ManualClock": "asgi_wasm.testing.clock",
        "MapType": "asgi_wasm.host.abi",
        "MetricType": "asgi_wasm.host.abi",
        "NotAnsweredError": "asgi_wasm.testing.driving",
        "NotSettledError": "asgi_wasm.testing.patience",
        "Pending": "asgi_wasm.testing.plugin",
        "PluginView": "asgi_wasm.testing.views",
        "ProxyStatus": "asgi_wasm.host.abi",
        "Reply": "asgi_wasm.testing.upstreams.upstreams",
        "Response": "asgi_wasm.testing.connection",
        "SeenRequest": "asgi_wasm.testing.exchange",
        "StreamType": "asgi_wasm.host.abi",
        "SyncConnection": "asgi_wasm.testing.plugin",
        "SyncWasmHost": "asgi_wasm.testing.plugin",
        "SyncWasmPlugin": "asgi_wasm.testing.plugin",
        "TestApp": "asgi_wasm.testing.app",
        "TestGrpc": "asgi_wasm.testing.upstreams.grpc",
        "TestMiddleware": "asgi_wasm.testing.middleware",
        "TestUpstream": "asgi_wasm.testing.upstreams.upstreams",
        "UnexpectedCallError": "asgi_wasm.testing.unexpected",
        "WasmHost": "asgi_wasm.testing.plugin",
        "WasmPlugin": "asgi_wasm.testing.plugin",
    }
    __getattr__, __dir__ = _names_in(globals(), _PLACES)
