"""Lifespan: plugins start before the app and stop after it, whatever the app does with the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.lifespans import SHUTDOWN, STARTUP, Server, recorded
from tests.driving import answering, request, settled, until
from tests.guests import Guest, Serve


def speaking(order: list[str], startup: str = "complete", shutdown: str = "complete") -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await answering(b"app")(scope, receive, send)
            return
        assert await receive() == STARTUP
        order.append("app starts")
        scope["state"]["db"] = "open"
        await send({"type": f"lifespan.startup.{startup}"})
        if startup == "failed":
            return
        assert await receive() == SHUTDOWN
        order.append("app stops")
        await send({"type": f"lifespan.shutdown.{shutdown}"})

    return app


async def raising(scope: Scope, receive: Receive, send: Send) -> None:
    """As Django."""
    if scope["type"] == "lifespan":
        raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")
    await answering(b"app")(scope, receive, send)


async def returning(scope: Scope, receive: Receive, send: Send) -> None:
    """As apps that look at the scope's type and do nothing."""
    if scope["type"] != "lifespan":
        await answering(b"app")(scope, receive, send)


async def hanging(scope: Scope, receive: Receive, send: Send) -> None:
    """As an app that waits for its database."""
    await asyncio.Event().wait()


async def lived(
    serve_guests: Serve, app: ASGIApp, order: list[str], then: Callable[[Server, Any], Awaitable[None]]
) -> None:
    async with serve_guests(app, recorded(order), lazily=True) as middleware:
        await then(Server(middleware), middleware)


async def test_plugins_start_first_and_stop_last(serve_guests: Serve) -> None:
    order: list[str] = []

    async def then(server: Server, middleware: Any) -> None:
        assert (await server.ask(STARTUP))["type"] == "lifespan.startup.complete"
        assert server.scope["state"] == {"db": "open"}
        assert (await request(middleware)).body == b"app"
        order.append("served")
        await server.ask(SHUTDOWN)
        await server.over()
        assert server.sent == ["startup.complete", "shutdown.complete"]

    await lived(serve_guests, speaking(order), order, then)
    assert order == ["plugin starts", "app starts", "served", "app stops", "plugin stops"]


@pytest.mark.parametrize("app", [raising, returning])
async def test_app_that_does_not_speak_it_is_answered_for(serve_guests: Serve, app: ASGIApp) -> None:
    order: list[str] = []

    async def then(server: Server, middleware: Any) -> None:
        assert (await server.ask(STARTUP))["type"] == "lifespan.startup.complete"
        assert (await request(middleware)).body == b"app"
        assert order == ["plugin starts"]
        await server.ask(SHUTDOWN)
        await server.over()
        assert server.sent == ["startup.complete", "shutdown.complete"]

    await lived(serve_guests, app, order, then)
    assert order == ["plugin starts", "plugin stops"]


async def test_app_that_fails_its_startup(serve_guests: Serve) -> None:
    order: list[str] = []

    async def then(server: Server, middleware: Any) -> None:
        assert (await server.ask(STARTUP))["type"] == "lifespan.startup.failed"
        await server.over()

    await lived(serve_guests, speaking(order, startup="failed"), order, then)
    assert order == ["plugin starts", "app starts", "plugin stops"]


async def test_app_that_fails_its_shutdown(serve_guests: Serve) -> None:
    order: list[str] = []

    async def then(server: Server, middleware: Any) -> None:
        await server.ask(STARTUP)
        await server.ask(SHUTDOWN)
        await server.over()
        assert server.sent == ["startup.complete", "shutdown.failed"]

    await lived(serve_guests, speaking(order, shutdown="failed"), order, then)
    assert order[-2:] == ["app stops", "plugin stops"]


async def test_app_that_raises_after_its_startup(serve_guests: Serve) -> None:
    order: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise ValueError("the app's own")

    async def then(server: Server, middleware: Any) -> None:
        await server.ask(STARTUP)
        with pytest.raises(ValueError, match="the app's own"):
            await server.over()

    await lived(serve_guests, app, order, then)
    assert order == ["plugin starts", "plugin stops"]


async def test_plugin_that_fails_the_startup(serve_guests: Serve) -> None:
    """The message names the plugin, its file and its last words; the app never starts, and others are stopped."""
    order: list[str] = []

    def refuse(api: Hostcalls, *_: int) -> int:
        api.log(b"conf is not JSON", 4)
        return 0

    guests = (recorded(order), Guest(on_configure=refuse))
    async with serve_guests(speaking(order), *guests, lazily=True) as middleware:
        server = Server(middleware)
        answer = await server.ask(STARTUP)
        await server.over()
        assert answer["type"] == "lifespan.startup.failed"
        assert "plugin 'g1'" in answer["message"]
        assert "g1.wasm): it refused to start without a conf (on_configure answered false); its" in answer["message"]
        assert answer["message"].endswith("last words: conf is not JSON")
    assert order == ["plugin starts", "plugin stops"]


async def test_mistakes_of_the_settings_stand_behind_each_other() -> None:
    """A server shows the message as one line."""
    server = Server(WasmMiddleware(speaking([]), settings={"one": 1, "two": 2}))
    answer = await server.ask(STARTUP)
    await server.over()
    _, first, second = answer["message"].split("argument settings: ")
    assert "unknown key 'one'" in first and first.endswith("; ")
    assert "unknown key 'two'" in second
    assert "\\n" not in answer["message"]


async def test_plugin_that_fails_open_does_not_fail_the_startup(serve_guests: Serve) -> None:
    guest = Guest(on_configure=lambda api, *_: 0)
    entries = [{"failure_policy": "fail_open"}]
    async with serve_guests(speaking([]), guest, lazily=True, entries=entries) as middleware:
        server = Server(middleware)
        assert (await server.ask(STARTUP))["type"] == "lifespan.startup.complete"
        assert (await request(middleware)).body == b"app"
        await server.ask(SHUTDOWN)
        await server.over()


async def test_settings_that_fail_the_startup(serve_guests: Serve) -> None:
    async with serve_guests(speaking([]), lazily=True, nonsense=1) as middleware:
        answer = await Server(middleware).ask(STARTUP)
        assert answer["type"] == "lifespan.startup.failed"
        assert answer["message"].startswith("argument settings: nonsense: unknown key 'nonsense'; known are ")


@pytest.mark.parametrize("app", [returning, raising, hanging], ids=["returning", "raising", "hanging"])
async def test_plugins_stop_when_the_server_cancels(serve_guests: Serve, app: ASGIApp) -> None:
    """While the app starts, or while it is answered for."""
    order: list[str] = []

    async def then(server: Server, middleware: Any) -> None:
        server.incoming.put_nowait(STARTUP)
        await until(lambda: bool(order))
        await settled()
        server.task.cancel()
        await asyncio.wait([server.task])
        assert order == ["plugin starts", "plugin stops"]

    await lived(serve_guests, app, order, then)


async def test_middleware_can_be_started_again(serve_guests: Serve) -> None:
    """As a test client does that is entered twice."""
    order: list[str] = []

    async def then(server: Server, middleware: Any) -> None:
        for again in (server, Server(middleware)):
            await again.ask(STARTUP)
            assert (await request(middleware)).body == b"app"
            await again.ask(SHUTDOWN)
            await again.over()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await speaking([])(scope, receive, send)

    async with serve_guests(app, recorded(order), lazily=True) as middleware:
        await then(Server(middleware), middleware)
    assert order == ["plugin starts", "plugin stops"] * 2
