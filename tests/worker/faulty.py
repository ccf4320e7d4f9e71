"""A plugin that traps in the callback that a test names, and how a middleware around it comes to that callback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from asgi_wasm.engines.base import GuestFunction
from asgi_wasm.engines.null import GuestTrap, NullHost
from asgi_wasm.specs import FailurePolicy
from asgi_wasm.testing import Hostcalls
from tests.driving import answering, request
from tests.guests import CONTINUE, PAUSE, REQUEST, Guest, Wrap

POLICIES = [policy.value for policy in FailurePolicy]
# The callbacks of a gRPC stream, by what a server tells on it.
OF_A_GRPC_STREAM = [
    *("on_grpc_receive_initial_metadata", "on_grpc_receive", "on_grpc_receive_trailing_metadata", "on_grpc_close"),
]
# Those that do nothing else than trap.
_PLAIN = [
    *("on_request_body", "on_response_headers", "on_response_trailers"),
    *("on_http_call_response", "on_queue_ready", "on_foreign_function", *OF_A_GRPC_STREAM),
]


class Faulty:
    """Its guest's callback named ``phase`` traps while it is `armed`; requests with x-pause wait for ever."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.armed = False
        self.traps = 0
        self.starts = 0
        # When it trapped.
        self.starts_before = 0
        # Of a gRPC stream, once; or the one call for an upstream that is not there.
        self.asked = False
        self.calls_nobody = False
        self.streams: set[int] = set()
        # Of the response's body, by stream.
        self.pieces: dict[int, int] = {}

    def trap(self, name: str, context: int | None = None) -> None:
        if self.armed and name == self.phase and (context is None or context in self.streams):
            self.traps += 1
            self.starts_before = self.starts
            # The owner of a queue is started again at once, and told again.
            self.armed = self.phase != "on_queue_ready"
            raise GuestTrap(f"told to, in {name}")

    @property
    def guest(self) -> Guest:
        return _Trapping(
            self,
            **{name: self._trapping(name, CONTINUE) for name in _PLAIN},
            on_vm_start=self._trapping("on_vm_start", 1),
            on_configure=self._on_configure,
            on_request_headers=self._on_request_headers,
            on_response_body=self._on_response_body,
            on_tick=self._on_tick,
            on_log=self._ending("on_log", 0),
            on_done=self._ending("on_done", 1),
        )

    def _trapping(self, name: str, answer: int) -> Callable[..., int]:
        def callback(*_: Any) -> int:
            self.trap(name)
            return answer

        return callback

    def _ending(self, name: str, answer: int) -> Callable[..., int]:
        """Of a stream; of a root context when that is done."""

        def callback(_: Hostcalls, context: int) -> int:
            self.trap(name, context)
            if name == "on_done" and context not in self.streams:
                self.trap("root_done")
            return answer

        return callback

    def _on_configure(self, api: Hostcalls, *_: int) -> int:
        self.starts += 1
        self.streams.clear()
        self.pieces.clear()
        self.trap("on_configure")
        api.set_tick_period_milliseconds(2)
        if self.phase == "on_queue_ready":
            # Only there: for the others it is a request that starts it again.
            api.register_shared_queue(b"q")
        return 1

    def _on_request_headers(self, api: Hostcalls, *_: int) -> int:
        self.trap("on_request_headers")
        # For the allocator.
        api.get_header_map_value(REQUEST, b":path")
        return PAUSE if api.get_header_map_value(REQUEST, b"x-pause") else CONTINUE

    def _on_response_body(self, _: Hostcalls, context: int, *__: int) -> int:
        self.pieces[context] = self.pieces.get(context, 0) + 1
        self.trap("on_response_body")
        self.trap(f"on_response_body@{self.pieces[context]}")
        return CONTINUE

    def _on_tick(self, api: Hostcalls, *_: int) -> None:
        """Ask for what makes the host call the callback that is to trap."""
        self.trap("on_tick")
        if not self.armed:
            return
        if self.phase == "on_queue_ready":
            api.call("enqueue_shared_queue", 1, b"v")
        elif self.phase == "on_foreign_function":
            api.call_foreign_function(b"soon")
        elif self.phase == "on_http_call_response":
            _call_nobody(api)
        elif self.phase == "on_grpc_close" and self.calls_nobody:
            api.grpc_call(b"dead", b"Service", b"Method", b"")
        elif self.phase in OF_A_GRPC_STREAM and not (self.asked or self.calls_nobody):
            self.asked = True
            _open_stream(api)


class _Trapping(Guest):
    """A guest whose exports trap, too, that are no callbacks of `Guest`."""

    def __init__(self, faulty: Faulty, **own: Callable[..., Any]) -> None:
        super().__init__(**own)
        self._faulty = faulty

    def __call__(self, host: NullHost) -> Mapping[str, GuestFunction]:
        faulty, exports = self._faulty, dict(super().__call__(host))
        create, delete, malloc = (exports[name] for name in ("proxy_on_context_create", "proxy_on_delete", "malloc"))

        def proxy_on_context_create(context: int, parent: int) -> None:
            if parent:
                faulty.streams.add(context)
            faulty.trap("on_context_create" if parent else "root_create")
            create(context, parent)

        def proxy_on_delete(context: int) -> None:
            faulty.trap("on_delete", context)
            if context not in faulty.streams:
                faulty.trap("root_delete")
            delete(context)

        def initialize() -> None:
            faulty.trap("_initialize")

        def allocate(size: int) -> int:
            faulty.trap("malloc")
            return malloc(size) or 0

        own: dict[str, GuestFunction] = {
            "proxy_on_context_create": proxy_on_context_create,
            "proxy_on_delete": proxy_on_delete,
            "malloc": allocate,
            "_initialize": initialize,
        }
        return {**exports, **own}


def _call_nobody(api: Hostcalls) -> None:
    api.http_call(b"dead", [(b":method", b"GET"), (b":path", b"/"), (b":authority", b"h")])


def _open_stream(api: Hostcalls) -> None:
    token = api.grpc_stream(b"grpc", b"test.Auth", b"Check")
    api.grpc_send(token, b"m", end_stream=True)


async def _soon(argument: bytes) -> bytes:
    await asyncio.sleep(0)
    return b""


def served(wrap_guests: Wrap, faulty: Faulty, policy: str, app: Any = None, **upstreams: str) -> Any:
    entry = {"failure_policy": policy, "reload_config": {"backoff": {"base_interval": "0.01s"}}}
    # Nobody listens there.
    upstreams["dead"] = "http://127.0.0.1:1"
    # Its length is declared, so that its head waits for the first verdict on the body.
    app = app or answering(b"app", headers=[(b"content-length", b"3")])
    return wrap_guests(app, faulty.guest, entries=[entry], foreign_functions={"soon": _soon}, upstreams=upstreams)


async def comes_back(app: Any, faulty: Faulty) -> None:
    """A fresh VM serves, once its back-off is over."""

    async def served_by_it() -> None:
        while faulty.starts == faulty.starts_before:
            await request(app)
            await asyncio.sleep(0.002)

    await asyncio.wait_for(served_by_it(), 60)
    response = await request(app, "POST", body=[b"x"])
    assert (response.status, response.body) == (200, b"app")
