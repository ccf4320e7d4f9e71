"""The lifespan as it would be without us, whatever the app does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from tests.asgi.lifespans import SHUTDOWN, STARTUP, Server, recorded
from tests.driving import answering, request, run
from tests.guests import Serve, Wrap


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
