"""Slow clients: nothing is lost, and the app is slowed."""

from __future__ import annotations

import asyncio

from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from tests.asgi.acting import Resumer, flushed_to_a_slow_client, passing, pausing
from tests.asgi.exchange.messages import START, body
from tests.driving import Connection, answering, http_scope, settled
from tests.guests import (
    RESPONSE,
    Guest,
    Serve,
)


async def test_slow_client_loses_nothing_when_the_app_ends_first(serve_guests: Serve) -> None:
    """What a resume releases is being sent while the exchange ends: it is not cut off."""
    async with flushed_to_a_slow_client(serve_guests) as connection:
        await asyncio.sleep(0.02)
        assert not connection.task.done()
        connection.gate.set()
        response = await connection.over()
        assert (response.body, response.complete) == (b"ab", True)


async def test_last_message_that_is_being_sent_is_waited_for(serve_guests: Serve) -> None:
    """Nothing is left to be sent, and the last piece is not through yet: the exchange does not end under it."""
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing, **resumer.callbacks)
    sent: list[Message] = []

    under_way, gate = asyncio.Event(), asyncio.Event()

    async def send(message: Message) -> None:
        if not message.get("more_body", True):
            under_way.set()
            await gate.wait()
        sent.append(message)

    async def receive() -> Message:
        if asked:
            await asyncio.Event().wait()
        asked.append(True)
        return {"type": "http.request", "body": b"", "more_body": False}

    asked: list[bool] = []
    async with serve_guests(answering(b"a"), guest) as middleware:
        call = asyncio.ensure_future(middleware(http_scope(), receive, send))
        await settled()
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(RESPONSE)))
        await asyncio.wait_for(under_way.wait(), 60)
        await settled()
        assert not call.done()
        gate.set()
        await asyncio.wait_for(call, 60)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


async def test_slow_client_slows_the_app(serve_guests: Serve) -> None:
    produced = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal produced
        await send(START)
        for _ in range(5):
            await send(body(b"x", True))
            produced += 1
        await send(body(b""))

    async with serve_guests(app, Guest(on_response_body=passing)) as middleware:
        connection = Connection(middleware)
        await connection.sent(2)
        connection.gate.clear()
        await settled()
        before = produced
        await asyncio.sleep(0.02)
        assert produced - before <= 1
        connection.gate.set()
        assert (await connection.over()).body == b"xxxxx"
