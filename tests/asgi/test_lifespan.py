"""Lifespan: plugins start before the app and stop after it, whatever the app does with the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from tests.driving import SECONDS, answering, request, run, settled, until
from tests.guests import Api, Guest, Serve, Wrap

STARTUP, SHUTDOWN = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}


class Server:
    """The server's side of one lifespan call."""

    def __init__(self, app: ASGIApp) -> None:
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[str] = []
        self.messages: list[Message] = []
        self.answered = asyncio.Event()
        self.scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self.task = asyncio.ensure_future(self._run(app))

    async def _run(self, app: ASGIApp) -> None:
        await app(self.scope, self.incoming.get, self._send)

    async def _send(self, message: Message) -> None:
        self.messages.append(message)
        self.sent.append(message["type"].removeprefix("lifespan."))
        self.answered.set()

    async def ask(self, message: Message) -> Message:
        """Send and wait for the answer."""
        self.answered.clear()
        self.incoming.put_nowait(message)
        await asyncio.wait_for(self.answered.wait(), SECONDS)
        return self.messages[-1]

    async def over(self) -> None:
        await asyncio.wait_for(self.task, SECONDS)


def recorded(order: list[str]) -> Guest:
    roots: list[int] = []

    def on_configure(api: Api, root: int, size: int) -> int:
        roots.append(root)
        order.append("plugin starts")
        return 1

    def on_done(api: Api, context: int) -> int:
        # Streams have an end too.
        if context in roots:
            order.append("plugin stops")
        return 1

    return Guest(on_configure=on_configure, on_done=on_done)


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

    def refuse(api: Api, *_: int) -> int:
        api.log(b"conf is not JSON", 4)
        return 0

    guests = (recorded(order), Guest(on_configure=refuse))
    async with serve_guests(speaking(order), *guests, lazily=True) as middleware:
        server = Server(middleware)
        answer = await server.ask(STARTUP)
        await server.over()
        assert answer["type"] == "lifespan.startup.failed"
        assert "plugin 'g1'" in answer["message"]
        assert "g1.wasm): on_configure answered false; its last words: conf is not JSON" in answer["message"]
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


# --- as it would be without us


async def raises_before(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise OSError("the database is away")


async def exits_before(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise SystemExit(3)


async def returns_before(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def fails_and_raises(scope: Scope, receive: Receive, send: Send) -> None:
    """As Starlette."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "trace"})
    raise OSError("the database is away")


async def raises_after(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    raise OSError("a background task died")


async def returns_after(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})


async def raises_at_shutdown(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    raise OSError("cannot flush")


async def fails_at_shutdown(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "cannot flush"})
    raise OSError("cannot flush")


async def returns_at_shutdown(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()


async def hears_on(scope: Scope, receive: Receive, send: Send) -> None:
    """Asks for more than there is."""
    for kind in ("startup", "shutdown", "shutdown"):
        scope["state"].setdefault("heard", []).append((await receive())["type"])
        await send({"type": f"lifespan.{kind}.complete"})


async def speaks_first(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "lifespan.startup.complete", "own": 1})
    scope["state"]["heard"] = [await receive(), await receive()]
    await send({"type": "lifespan.shutdown.complete", "own": 2})


async def speaks_nonsense(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that takes every scope for a request's: the server refuses its message."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})


SPEAKERS = [
    raises_before,
    exits_before,
    returns_before,
    fails_and_raises,
    raises_after,
    returns_after,
    raises_at_shutdown,
    fails_at_shutdown,
    returns_at_shutdown,
    hears_on,
    speaks_first,
    speaks_nonsense,
]


async def transcript(app: ASGIApp) -> tuple[Any, ...]:
    """All that a server sees of an app's lifespan; as strict as uvicorn about messages."""
    incoming = [STARTUP, SHUTDOWN, SHUTDOWN]
    scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    sent: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        if not message["type"].startswith("lifespan."):
            raise RuntimeError("no message of a lifespan")
        sent.append(message)

    raised = ""
    try:
        await app(scope, receive, send)
    except BaseException as error:
        raised = repr(error)
    return sent, raised, len(incoming), scope["state"]


@pytest.mark.parametrize("app", SPEAKERS)
async def test_lifespan_is_transparent(serve_guests: Serve, app: ASGIApp) -> None:
    """Whatever the app does or raises, the server sees what it would see of the bare app."""
    order: list[str] = []

    async with serve_guests(app, recorded(order), lazily=True) as middleware:
        assert await transcript(middleware) == await transcript(app)
        over = "shutdown" in app.__name__ or app.__name__ in ("fails_and_raises", "hears_on", "speaks_first")
        # Where the server may go on serving, the plugins run on.
        assert order == ["plugin starts", *(["plugin stops"] if over else [])]
    assert order == ["plugin starts", "plugin stops"]


@pytest.mark.parametrize("app", [raises_before, raises_after, returns_after])
def test_plugins_serve_on_after_the_apps_lifespan_and_end_with_the_loop(wrap_guests: Wrap, app: ASGIApp) -> None:
    order: list[str] = []

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        await (app if scope["type"] == "lifespan" else answering(b"app"))(scope, receive, send)

    async def main() -> None:
        middleware = wrap_guests(both, recorded(order))
        await transcript(middleware)
        assert (await request(middleware)).body == b"app"
        assert order == ["plugin starts"]

    run(main)
    assert order == ["plugin starts", "plugin stops"]


@pytest.mark.parametrize("way", ["entered by the outer app", "left to the loop"])
def test_app_mounted_below_another(wrap_guests: Wrap, way: str) -> None:
    """It gets no lifespan: the outer app's enters it, or its plugins end with the loop."""
    order: list[str] = []
    inner = wrap_guests(answering(b"inner"), recorded(order))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with inner:
            order.append("outer starts")
            yield
            order.append("outer stops")

    outer = Starlette(routes=[Mount("/inner", inner)], lifespan=lifespan if way.startswith("entered") else None)

    async def main() -> None:
        server = Server(outer)
        await server.ask(STARTUP)
        assert (await request(outer, path="/inner/page")).body == b"inner"
        await server.ask(SHUTDOWN)
        await server.over()
        order.append("server is over")

    run(main)
    started = ["plugin starts", "outer starts", "outer stops", "plugin stops", "server is over"]
    assert order == (started if way.startswith("entered") else ["plugin starts", "server is over", "plugin stops"])
