"""Plugins written in Python for one test, run by the real middleware over the null engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware, testing
from asgi_wasm.asgi.types import ASGIApp
from asgi_wasm.engines.null import GuestTrap, NullHost
from asgi_wasm.host.codecs.wire import Pairs
from asgi_wasm.testing import Hostcalls, TestMiddleware
from asgi_wasm.testing.guests import Callback
from tests.waiting import tasks

CONTINUE, PAUSE = 0, 1
REQUEST, RESPONSE = 0, 1
INFO = 2
# Map types and buffer types.
REQUEST_HEADERS, REQUEST_TRAILERS, RESPONSE_HEADERS, RESPONSE_TRAILERS = range(4)
REQUEST_BODY, RESPONSE_BODY = 0, 1


class Api(Hostcalls):
    """The hostcalls, under shorter names."""

    def ok(self, name: str, *arguments: int) -> None:
        status = self.raw(name, *arguments)
        if status:
            raise GuestTrap(f"proxy_{name} answered {status}")

    def asked(self, name: str, *arguments: int) -> bytes | None:
        """The bytes that a hostcall gives back; None for NOT_FOUND."""
        out = self.host.allocate(8)
        status = self.raw(name, *arguments, out, out + 4)
        if status == 1:
            return None
        if status:
            raise GuestTrap(f"proxy_{name} answered {status}")
        return self.host.memory.read(self.host.read_u32(out), self.host.read_u32(out + 4))

    def get(self, map_type: int, name: bytes) -> bytes | None:
        return self.get_header_map_value(map_type, name)

    def pairs(self, map_type: int) -> Pairs:
        return self.get_header_map_pairs(map_type)

    def set_pairs(self, map_type: int, pairs: Pairs) -> None:
        self.set_header_map_pairs(map_type, pairs)

    def add(self, map_type: int, name: bytes, value: bytes) -> None:
        self.add_header_map_value(map_type, name, value)

    def replace(self, map_type: int, name: bytes, value: bytes) -> None:
        self.replace_header_map_value(map_type, name, value)

    def remove(self, map_type: int, name: bytes) -> None:
        self.remove_header_map_value(map_type, name)

    def body(self, kind: int) -> bytes:
        return self.get_buffer_bytes(kind)

    def set_body(self, kind: int, data: bytes) -> None:
        self.set_buffer_bytes(kind, data)

    def reply(self, status: int, body: bytes = b"", headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.send_local_response(status, body, headers, details=b"told")

    def resume(self, kind: int) -> None:
        self.continue_stream(kind)

    def close(self, kind: int) -> None:
        self.close_stream(kind)

    def act_for(self, context: int) -> None:
        self.set_effective_context(context)

    def property(self, path: bytes) -> bytes | None:
        return self.get_property(path)

    def tick(self, milliseconds: int) -> None:
        self.set_tick_period_milliseconds(milliseconds)


class Guest(testing.Guest):
    """Keeps account of its stream contexts: whatever a test does, each is deleted once."""

    def __init__(self, **own: Callback) -> None:
        self.created: list[int] = []
        self.deleted: list[int] = []
        self.logged: list[int] = []
        self._own_log = own.get("on_log")
        account: dict[str, Callback] = {
            "on_context_create": self._on_context_create,
            "on_log": self._on_log,
            "on_delete": self._on_delete,
        }
        super().__init__(**{**own, **account})

    def hostcalls(self, host: NullHost) -> Api:
        return Api(host)

    def _on_context_create(self, _: Hostcalls, context: int, parent: int) -> None:
        if parent:
            self.created.append(context)

    def _on_log(self, host: Hostcalls, context: int) -> None:
        self.logged.append(context)
        if self._own_log is not None:
            self._own_log(host, context)

    def _on_delete(self, _: Hostcalls, context: int) -> None:
        if context in self.created:
            self.deleted.append(context)


Serve = Callable[..., Any]
Wrap = Callable[..., WasmMiddleware]


@pytest.fixture
def wrap_guests(tmp_path: Path) -> Wrap:
    """``wrap_guests(app, guest, …, routes=…)``: the middleware, not started, in no event loop."""

    def wrap(app: ASGIApp, *guests: Guest, **settings: Any) -> WasmMiddleware:
        entries = settings.pop("entries", [{} for _ in guests])
        options = {name: settings.pop(name) for name in ("foreign_functions",) if name in settings}
        files = [*guests, *[None] * len(entries)]
        plugins = [{"name": f"g{index}", "file": files[index], **entry} for index, entry in enumerate(entries)]
        settings = {"plugins": plugins, "cache_dir": str(tmp_path / "cache"), **settings}
        return TestMiddleware(app, settings=settings, guest_dir=tmp_path, **options)

    return wrap


@pytest.fixture
def serve_guests(wrap_guests: Wrap) -> Serve:
    """``async with serve_guests(app, guest, …, routes=…) as middleware``; no context or task may be left over."""

    @asynccontextmanager
    async def serve(
        app: ASGIApp, *guests: Guest, lazily: bool = False, traps: bool = False, **settings: Any
    ) -> AsyncIterator[Any]:
        before = tasks()
        middleware = wrap_guests(app, *guests, **settings)
        if not lazily:
            await middleware.start()
        yield middleware
        left_over = tasks() - before
        await middleware.stop()
        assert left_over == set()
        # A VM that trapped hears nothing of its contexts' ends.
        for guest in () if traps else guests:
            assert sorted(guest.deleted) == sorted(guest.created)
            assert sorted(guest.logged) == sorted(guest.created)

    return serve
