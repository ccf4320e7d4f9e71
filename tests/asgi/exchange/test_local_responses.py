"""Plugins that answer in the app's stead, or end the stream."""

from __future__ import annotations

import pytest

from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import Resumer, passing
from tests.asgi.exchange.messages import CHUNKED, START, body
from tests.driving import Connection, answering, request
from tests.guests import CONTINUE, PAUSE, REQUEST, Guest, Serve


@pytest.mark.parametrize("phase", ["request_headers", "request_body", "response_headers", "response_body"])
async def test_local_response_from_each_phase(serve_guests: Serve, phase: str) -> None:
    def on_phase(api: Hostcalls, context: int, *_: int) -> int:
        if context not in replied:
            replied.append(context)
            api.send_local_response(403, b"no", [(b"x-why", b"because")])
            return PAUSE
        return CONTINUE

    replied: list[int] = []

    guest = Guest(**{f"on_{phase}": on_phase})
    # With a content-length the head is still here when the body is looked at.
    app = answering(b"app", headers=[(b"content-length", b"3")])
    async with serve_guests(app, guest) as middleware:
        response = await request(middleware, "POST", body=[b"abc"])
        assert (response.status, response.body, response.complete) == (403, b"no", True)
        assert response.header(b"x-why") == b"because"


async def test_local_response_after_the_response_has_started(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def on_body(api: Hostcalls, context: int, size: int, end: int) -> int:
        if end:
            api.send_local_response(403, b"no")
        return CONTINUE

    async with serve_guests(answering(b"a", b"b"), Guest(on_response_body=on_body)) as middleware:
        response = await request(middleware)
        assert (response.status, response.body, response.complete) == (200, b"a", False)
    assert "a response was cut off: a local response came after the response had started" in caplog.text


@pytest.mark.parametrize("started", [False, True])
async def test_plugin_that_closes_the_stream(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture, started: bool
) -> None:
    phase = "on_response_body" if started else "on_request_headers"
    guest = Guest(**{phase: lambda api, context, *_: api.close_stream(REQUEST)})

    async with serve_guests(answering(b"a", b"b"), guest) as middleware:
        response = await request(middleware)
        assert not response.complete
        assert bool(response.messages) == started
    assert "plugin 'g0' closed the stream" in caplog.text


@pytest.mark.parametrize("more", [False, True])
async def test_app_that_goes_on_after_a_plugin_answered(serve_guests: Serve, more: bool) -> None:
    """It ignores the disconnect. An endless one is ended by an OSError; a last message is dropped in silence."""
    resumer = Resumer()
    guest = Guest(on_request_headers=passing, **resumer.callbacks)
    raised: list[type] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.send_local_response(403, b"no")))
        await resumer.done()
        await send(START)
        try:
            for _ in range(1000):
                await send(body(b"x", more))
                if not more:
                    return
        except OSError as error:
            raised.append(type(error))
            raise

    async with serve_guests(app, guest) as middleware:
        response = await request(middleware)
        assert (response.status, response.body) == (403, b"no")
    assert raised == ([OSError] if more else [])


async def test_app_waiting_for_the_client_is_told_that_a_plugin_answered(serve_guests: Serve) -> None:
    """Its `receive` was under way when the plugin answered, and the server has nothing to say."""
    resumer = Resumer()
    guest = Guest(on_request_body=passing, **resumer.callbacks)
    told: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.send_local_response(403, b"no")))
        told.append((await receive())["type"])

    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware, "POST", headers=CHUNKED)
        connection.feed(b"a", more=True)
        await connection.sent(2)
        # uvicorn gives a disconnect once the response is complete.
        connection.hang_up()
        assert (await connection.over()).status == 403
    assert told == ["http.disconnect"]
