"""Cancellation, in every state."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_wasm.asgi.types import Receive, Scope, Send
from tests.asgi.acting import flushed_to_a_slow_client, passing, pausing
from tests.asgi.exchange.messages import LENGTH, START, body
from tests.driving import Connection, settled
from tests.guests import (
    Guest,
    Serve,
)

STATES = ["request-paused", "app-runs", "app-receives", "app-sends", "send-waits-for-plugin", "response-paused"]


@pytest.mark.parametrize("state", STATES)
async def test_cancelled_in_every_state(serve_guests: Serve, state: str) -> None:
    """The fixture sees to it that every context is deleted once and no task is left over."""
    callbacks: dict[str, Any] = {"on_request_body": passing}
    if state == "request-paused":
        callbacks["on_request_headers"] = pausing
    elif state in ("response-paused", "send-waits-for-plugin"):
        callbacks["on_response_headers"] = pausing

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if state == "app-runs":
            await asyncio.sleep(100)
        if state == "app-receives":
            await receive()
        await send(START)
        await send(body(b"xxxxxxxxx", state == "send-waits-for-plugin"))

    guest = Guest(**callbacks)
    async with serve_guests(app, guest, limits={"response_body": 20 if state == "response-paused" else 5}) as it:
        connection = Connection(it, "POST", headers=LENGTH)
        if state == "app-sends":
            connection.gate.clear()
        await settled()
        assert not connection.task.done()
        await connection.cancel()
        assert len(guest.deleted) == 1


async def test_cancelled_while_a_flush_is_under_way(serve_guests: Serve) -> None:
    async with flushed_to_a_slow_client(serve_guests) as connection:
        await connection.cancel()
