"""What servers call, while the accelerator stands there: who serves, and what puts an end to that."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.accelerator import load
from asgi_wasm.asgi.types import Receive, Scope, Send
from tests.accelerator.apps import HEADERS, App, exchange, running
from tests.bench.apps import fault
from tests.extras import NO_ACCELERATOR

pytestmark = pytest.mark.skipif(NO_ACCELERATOR != "", reason=NO_ACCELERATOR)
SCOPE: Scope = {
    "type": "http",
    "http_version": "1.1",
    "scheme": "http",
    "method": "GET",
    "path": "/",
    "raw_path": b"/",
    "query_string": b"",
    "headers": [(b"host", b"h")],
}
STATUS = 0


async def request(middleware: Any, scope: Scope = SCOPE) -> list[Any]:
    return await exchange(middleware, dict(scope))


def served(middleware: Any, scope: Scope = SCOPE) -> object:
    """What the middleware gives a server, which does not wait for it."""

    async def nothing(*_: object) -> Any: ...

    made = middleware(dict(scope), nothing, nothing)
    if inspect.iscoroutine(made):
        made.close()
    return made


def is_straight(middleware: Any, scope: Scope = SCOPE) -> bool:
    return isinstance(served(middleware, scope), load().Stream)


async def test_a_request_after_the_first_is_the_accelerators() -> None:
    async with running(App(), "required") as middleware:
        assert not is_straight(middleware)
        first = await request(middleware)
        assert is_straight(middleware)
        assert await request(middleware) == first


async def test_servers_and_tasks_take_it_for_an_app() -> None:
    async with running(App(), "required") as middleware:
        first = await request(middleware)
        call: Any = middleware.__call__
        assert inspect.iscoroutinefunction(call)
        got: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request"}

        async def send(message: Any) -> None:
            got.append(message)

        await call(dict(SCOPE), receive, send)
        await middleware(scope=dict(SCOPE), receive=receive, send=send)
        made: Any = middleware(dict(SCOPE), receive, send)
        assert isinstance(made, Coroutine)
        await asyncio.create_task(made)
        assert got == first[:2] * 3


async def test_other_connections_and_odd_requests_are_pythons() -> None:
    async with running(App(), "required") as middleware:
        first = await request(middleware)
        await request(middleware)
        changes: list[Scope] = [
            {"type": "websocket"},
            {"type": "lifespan"},
            {"type": "other"},
            {"headers": ((b"host", b"h"),)},
            {"method": "ODD"},
            {"headers": []},
        ]
        for change in changes:
            assert not is_straight(middleware, {**SCOPE, **change})
            assert is_straight(middleware)
        assert await request(middleware, {**SCOPE, "method": "ODD"}) == first


async def test_keys_that_are_other_objects_are_the_same_keys() -> None:
    async with running(App(), "required") as middleware:
        first = await request(middleware)
        keys = {("\0" + key)[1:]: value for key, value in SCOPE.items()}
        assert all(key is not other for key, other in zip(keys, SCOPE, strict=True))
        assert is_straight(middleware, keys)
        assert await request(middleware, keys) == first


async def test_a_class_of_a_users_own_may_take_its_place() -> None:
    class Own(WasmMiddleware):
        count = 0

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            self.count += 1
            await super().__call__(scope, receive, send)

    app = Own(App(), settings={"plugins": [{"name": "p", "file": HEADERS}], "accelerator": "required"})
    async with app:
        first = await request(app)
        assert await request(app) == first
        assert app.count == 2
        assert app.__call__.__func__ is Own.__call__  # type: ignore[attr-defined]


async def test_without_an_accelerator_it_opens_to_nothing() -> None:
    async with running(App(), "off") as middleware:
        first = await request(middleware)
        await request(middleware)
        assert not is_straight(middleware)
        assert not middleware.is_shut
        assert await request(middleware) == first


async def test_a_reload_shuts_it_at_once() -> None:
    plugin = fault("c")
    settings: dict[str, Any] = {"plugins": [{"name": "p", "file": plugin.path, "conf": plugin.conf}]}
    middleware = WasmMiddleware(App(), settings=settings)
    async with middleware:
        await request(middleware)
        await request(middleware)
        assert is_straight(middleware)
        assert (await request(middleware))[STATUS]["status"] == 200
        settings["plugins"][0]["conf"] = plugin.conf.replace("200", "418")
        await middleware.reload()
        assert not is_straight(middleware)
        assert (await request(middleware))[STATUS]["status"] == 418
        await request(middleware)
        assert is_straight(middleware)
        assert (await request(middleware))[STATUS]["status"] == 418


async def test_a_stop_shuts_it() -> None:
    async with running(App(), "required") as middleware:
        first = await request(middleware)
        await request(middleware)
        await middleware.stop()
        assert not is_straight(middleware)
        # As without a lifespan: they start again.
        assert await request(middleware) == first


def test_each_event_loop_has_its_own_plugins() -> None:
    middleware = WasmMiddleware(
        App(), settings={"plugins": [{"name": "p", "file": HEADERS}], "accelerator": "required"}
    )

    async def use() -> list[Any]:
        first = await request(middleware)
        await request(middleware)
        assert is_straight(middleware)
        return first

    async def in_another_thread() -> None:
        first = await use()
        assert await asyncio.to_thread(asyncio.run, use()) == first
        # That of the other loop has ended.
        assert await request(middleware) == first
        assert await use() == first

    asyncio.run(in_another_thread())
    assert not is_straight(middleware)


def test_it_is_not_to_be_misused() -> None:
    door: Any = load().Door()
    assert door.is_shut
    for arguments in ((), (None, None, 1), (None, None, None, None)):
        with pytest.raises(TypeError, match="open_to"):
            door.open_to(*arguments)
    with pytest.raises(AttributeError, match="serve_connection"):
        door({}, None, None)
    door.open_to(None, None, None)
    assert not door.is_shut
    door.shut()
    assert door.is_shut
