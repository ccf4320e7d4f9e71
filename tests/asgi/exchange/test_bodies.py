"""Bodies pass as they come."""

from __future__ import annotations

import asyncio

from asgi_wasm.asgi.types import Receive, Scope, Send
from tests.asgi.acting import passing
from tests.asgi.exchange.messages import CHUNKED, LENGTH, START, body
from tests.driving import Connection
from tests.guests import (
    REQUEST_BODY,
    RESPONSE_BODY,
    Guest,
    Serve,
)


async def test_request_chunks_reach_the_app_one_by_one(serve_guests: Serve) -> None:
    seen: list[bytes] = []
    guest = Guest(on_request_body=lambda api, context, size, end: seen.append(api.get_buffer_bytes(REQUEST_BODY)))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        while True:
            message = await receive()
            await send(body(message["body"], message["more_body"]))
            if not message["more_body"]:
                return

    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware, "POST", headers=CHUNKED)
        for number, chunk in enumerate((b"a", b"b", b"c")):
            # The next chunk is made only when this one is back.
            connection.feed(chunk, more=chunk != b"c")
            messages = await connection.sent(number + 2)
            assert messages[-1]["body"] == chunk
        await connection.over()
    assert seen == [b"a", b"b", b"c"]


async def test_response_chunks_reach_the_client_one_by_one(serve_guests: Serve) -> None:
    """Server-sent events: an event arrives before the next one is made, and the head before the first."""
    guest = Guest(
        on_response_headers=passing,
        on_response_body=lambda api, context, size, end: (
            api.set_buffer_bytes(RESPONSE_BODY, api.get_buffer_bytes(RESPONSE_BODY).upper()) and 0
        ),
    )
    events: list[asyncio.Event] = [asyncio.Event() for _ in range(3)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for number, event in enumerate(events):
            await event.wait()
            await send(body(b"event %d" % number, True))
        await send(body(b""))

    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware)
        assert (await connection.sent(1))[-1]["type"] == "http.response.start"
        for number, event in enumerate(events):
            event.set()
            assert (await connection.sent(number + 2))[number + 1] == body(b"EVENT %d" % number, True)
        await connection.over()


async def test_plugin_without_body_callbacks_costs_the_body_nothing(serve_guests: Serve) -> None:
    """Nothing is read that the app does not ask for, and what it sends goes out as it is."""
    guest = Guest(on_request_headers=passing, on_response_headers=passing)
    data = b"the very same object"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(data))

    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware, "POST", headers=LENGTH)
        connection.feed(b"unread")
        response = await connection.over()
        assert connection.received == 0
        assert response.chunks[0] is data
