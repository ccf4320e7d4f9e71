"""Bodies of requests that nobody announced."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from tests.asgi.acting import Resumer, passing, pausing
from tests.asgi.exchange.messages import START, body
from tests.driving import Connection, settled
from tests.guests import (
    REQUEST,
    REQUEST_BODY,
    Guest,
    Serve,
)


async def test_unannounced_body_while_paused_is_collected_to_the_limit_only(serve_guests: Serve) -> None:
    resumer, got = Resumer(), []
    guest = Guest(on_request_headers=pausing, on_request_body=passing, **resumer.callbacks)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(await receive())
        await send(START)
        await send(body(b""))

    async with serve_guests(app, guest, limits={"request_body": 10}) as middleware:
        connection = Connection(middleware, http_version="2")
        for _ in range(10):
            connection.feed(b"some", more=True)
        await settled()
        assert connection.received == 3
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(REQUEST)))
        await resumer.done()
        connection.hang_up()
        await connection.over()
    assert got == [{"type": "http.request", "body": b"some" * 3, "more_body": True}]


@pytest.mark.parametrize("reads_body", [True, False])
@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_body_that_no_header_announces(serve_guests: Serve, reads_body: bool, version: str) -> None:
    """A body ends by `more_body` alone: plugins that look at bodies see it, and so does the app."""
    got: list[Message] = []
    seen: list[tuple[int, ...]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.extend([await receive(), await receive()])
        await send(START)
        await send(body(b""))

    callbacks: dict[str, Any] = {"on_request_headers": lambda api, context, count, end: seen.append((end,))}
    if reads_body:
        callbacks["on_request_body"] = lambda api, context, size, end: seen.append((size, end))
    async with serve_guests(app, Guest(**callbacks)) as middleware:
        connection = Connection(middleware, http_version=version)
        connection.feed(b"some", more=True)
        connection.feed(b"more!")
        await connection.over()
    assert [(message["body"], message["more_body"]) for message in got] == [(b"some", True), (b"more!", False)]
    assert seen == ([(0,), (4, 0), (5, 1)] if reads_body else [(1,)])


@pytest.mark.parametrize("resumes", [True, False])
async def test_body_of_a_bodiless_method_over_http2_while_a_plugin_waits(serve_guests: Serve, resumes: bool) -> None:
    """No plugin looks at bodies, so the app gets what it gets without any, whether the body came early or late."""
    resumer, got = Resumer(), []
    guest = Guest(on_request_headers=pausing if resumes else passing, **resumer.callbacks)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.extend([await receive(), await receive()])
        await send(START)
        await send(body(b""))

    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware, http_version="2")
        connection.feed(b"one", more=True)
        await settled()
        if resumes:
            resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(REQUEST)))
            await resumer.done()
        connection.feed(b"two")
        await connection.over()
    assert [(message["body"], message["more_body"]) for message in got] == [(b"one", True), (b"two", False)]


async def test_unannounced_body_does_not_pass_a_plugin_behind_the_one_that_waits(serve_guests: Serve) -> None:
    """The second has no context yet, and looks at bodies."""
    resumer, got = Resumer(), []
    seen: list[bytes] = []
    first = Guest(on_request_headers=pausing, **resumer.callbacks)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(await receive())
        await send(START)
        await send(body(b""))

    guest = Guest(on_request_body=lambda api, *_: seen.append(api.get_buffer_bytes(REQUEST_BODY)))
    async with serve_guests(app, first, guest) as middleware:
        connection = Connection(middleware, http_version="2")
        connection.feed(b"seen")
        await settled()
        resumer.later(lambda api: (api.set_effective_context(first.created[0]), api.continue_stream(REQUEST)))
        await connection.over()
    assert got == [{"type": "http.request", "body": b"seen", "more_body": False}]
    assert seen == [b"seen"]


async def test_empty_piece_before_the_end_of_no_body(serve_guests: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """It is no body; the app hears of the end once."""
    got: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(await receive())
        await send(START)
        await send(body(b""))
        got.append(await receive())

    async with serve_guests(app, Guest(on_request_body=passing)) as middleware:
        connection = Connection(middleware)
        connection.feed(b"", more=True)
        connection.feed(b"")
        connection.hang_up()
        await connection.over()
    assert got == [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]
    assert "not announced" not in caplog.text
