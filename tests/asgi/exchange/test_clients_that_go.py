"""Clients that go before the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from tests.asgi.acting import Resumer, passing, pausing
from tests.asgi.exchange.messages import LENGTH, START, body
from tests.driving import Connection, answering, http_scope, settled
from tests.guests import (
    RESPONSE,
    Guest,
    Serve,
)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_client_gone_while_paused(serve_guests: Serve, method: str) -> None:
    called: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(scope)

    guest = Guest(on_request_headers=pausing)
    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware, method, headers=LENGTH if method == "POST" else ())
        connection.feed(b"abc" if method == "POST" else b"", more=method == "POST")
        await settled()
        connection.hang_up()
        assert (await connection.over()).messages == []
        assert len(guest.deleted) == 1
    assert called == []


async def test_client_gone_while_the_response_is_paused(serve_guests: Serve) -> None:
    guest = Guest(on_response_headers=pausing)
    async with serve_guests(answering(b"app"), guest) as middleware:
        connection = Connection(middleware)
        connection.feed()
        await settled()
        assert not connection.task.done()
        connection.hang_up()
        assert (await connection.over()).messages == []


async def test_client_gone_before_the_end_of_its_body(serve_guests: Serve) -> None:
    got: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(await receive())
        got.append(await receive())
        # Every further one says so too.
        got.append(await receive())

    async with serve_guests(app, Guest(on_request_body=passing)) as middleware:
        connection = Connection(middleware, "POST", headers=LENGTH)
        connection.feed(b"abc", more=True)
        await settled()
        connection.hang_up()
        await connection.over()
    assert [message["type"] for message in got] == ["http.request", "http.disconnect", "http.disconnect"]


@pytest.mark.parametrize("callbacks", [{}, {"on_response_body": passing}], ids=["headers", "body"])
async def test_client_gone_before_the_end_of_the_response(serve_guests: Serve, callbacks: dict[str, Any]) -> None:
    """ASGI 2.4: `send` raises OSError, which the app sees, as without plugins."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        while True:
            await send(body(b"x", True))
            await asyncio.sleep(0)

    sent: list[Message] = []

    async def send(message: Message) -> None:
        if len(sent) == 3:
            raise OSError("the client has gone")
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nobody asked")

    guest = Guest(on_response_headers=passing, **callbacks)
    async with serve_guests(app, guest) as middleware:
        with pytest.raises(OSError, match="the client has gone"):
            await middleware(http_scope(), receive, send)


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("too much data")])
async def test_server_that_refuses_what_a_resume_released(serve_guests: Serve, error: Exception) -> None:
    """Nobody's `send` is there to raise it: a client that went is no error, anything else ends the exchange."""
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing, **resumer.callbacks)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(RESPONSE)))
        await resumer.done()

    async def send(message: Message) -> None:
        raise error

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async with serve_guests(app, guest) as middleware:
        call = asyncio.wait_for(middleware(http_scope(), receive, send), 60)
        if isinstance(error, OSError):
            await call
        else:
            with pytest.raises(RuntimeError, match="too much data"):
                await call
