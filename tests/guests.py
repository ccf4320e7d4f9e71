"""Plugins written in Python for one test, run by the real middleware over the null engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware, testing
from asgi_wasm.asgi.types import ASGIApp
from asgi_wasm.testing import Hostcalls, TestMiddleware
from asgi_wasm.testing.guests.guests import Callback
from tests.waiting import tasks

CONTINUE, PAUSE = 0, 1
REQUEST, RESPONSE = 0, 1
INFO = 2
# Map types and buffer types.
REQUEST_HEADERS, REQUEST_TRAILERS, RESPONSE_HEADERS, RESPONSE_TRAILERS = range(4)
REQUEST_BODY, RESPONSE_BODY = 0, 1


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
