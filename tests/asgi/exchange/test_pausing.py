"""Plugins that pause a request or its response."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import Resumer, passing, pausing
from tests.asgi.exchange.messages import CHUNKED, LENGTH, START, body
from tests.driving import Connection, answering, request, settled, until
from tests.guests import CONTINUE, PAUSE, REQUEST, RESPONSE, Guest, Serve


@pytest.mark.parametrize("with_body", [False, True])
async def test_pause_in_request_headers(serve_guests: Serve, with_body: bool) -> None:
    resumer, seen = Resumer(), []
    guest = Guest(
        on_request_headers=pausing,
        on_request_body=lambda api, context, size, end: seen.append((size, end)),
        **resumer.callbacks,
    )

    async with serve_guests(answering(b"app"), guest) as middleware:
        connection = Connection(middleware, "POST" if with_body else "GET", headers=LENGTH if with_body else ())
        if with_body:
            connection.feed(b"abc", more=True)
        connection.feed(b"def" if with_body else b"")
        await settled()
        assert connection.response.messages == []
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(REQUEST)))
        assert (await connection.over()).body == b"app"
    assert seen == ([(6, 1)] if with_body else [])


async def test_pause_in_response_while_the_app_streams(serve_guests: Serve) -> None:
    """The app goes on; all of it comes out after the resume, though the app is long over."""
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing, **resumer.callbacks)

    async with serve_guests(answering(b"a", b"b", b"c"), guest) as middleware:
        connection = Connection(middleware)
        connection.feed()
        await settled()
        assert connection.response.messages == []
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(RESPONSE)))
        assert (await connection.over()).body == b"abc"


async def test_body_that_a_plugin_holds_until_it_is_whole(serve_guests: Serve) -> None:
    sizes: list[tuple[int, int]] = []

    def on_body(api: Hostcalls, context: int, size: int, end: int) -> int:
        sizes.append((size, end))
        return CONTINUE if end else PAUSE

    async with serve_guests(answering(b"ab", b"cd", b"ef"), Guest(on_response_body=on_body)) as middleware:
        response = await request(middleware)
        assert response.chunks == [b"abcdef"]
    assert sizes == [(2, 0), (4, 0), (6, 1)]


@pytest.mark.parametrize(("direction", "status"), [(REQUEST, 413), (RESPONSE, 500)])
async def test_held_body_over_the_limit(serve_guests: Serve, direction: int, status: int) -> None:
    guest = Guest(**{f"on_{('request', 'response')[direction]}_body": pausing})
    limits = {"request_body": 5, "response_body": 5}

    app = answering(b"abc", b"def", headers=LENGTH)
    async with serve_guests(app, guest, limits=limits) as middleware:
        response = await request(middleware, "POST", body=[b"abc", b"def"] if direction == REQUEST else ())
        assert response.status == status


async def test_watermark_stops_reading_the_client_and_the_app(serve_guests: Serve) -> None:
    """PAUSE on headers is back-pressure: no more than the limit, and a chunk, is read while it lasts."""
    resumer = Resumer()
    guest = Guest(on_request_headers=pausing, on_response_headers=pausing, **resumer.callbacks)
    produced = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal produced
        while (await receive())["more_body"]:
            pass
        await send(START)
        for _ in range(10):
            await send(body(b"xxx", True))
            produced += 1
        await send(body(b""))

    limits = {"request_body": 5, "response_body": 5}
    async with serve_guests(app, guest, limits=limits) as middleware:
        connection = Connection(middleware, "POST", headers=CHUNKED)
        for number in range(10):
            connection.feed(b"xxx", more=number < 9)
        await settled()
        assert connection.received == 2
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(REQUEST)))
        await until(lambda: produced > 0)
        await settled()
        assert produced == 1
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(RESPONSE)))
        assert (await connection.over()).body == b"xxx" * 10


async def test_app_blocked_by_a_plugin_loses_no_request_body(serve_guests: Serve) -> None:
    """While `send` waits for the plugin, what the client sends is kept for the app, but not without bound."""
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing, **resumer.callbacks)
    got = b""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal got
        await send(START)
        await send(body(b"x" * 10, True))
        while True:
            message = await receive()
            got += message["body"]
            if not message["more_body"]:
                break
        await send(body(b"end"))

    async with serve_guests(app, guest, limits={"response_body": 5}) as middleware:
        connection = Connection(middleware, "POST", headers=CHUNKED)
        for number in range(10):
            connection.feed(b"%d" % number, more=number < 9)
        await settled()
        assert connection.received <= 2
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(RESPONSE)))
        assert (await connection.over()).body == b"x" * 10 + b"end"
    assert got == b"0123456789"


@pytest.mark.parametrize("plugin_reads", [False, True])
async def test_app_that_receives_and_sends_in_two_tasks(serve_guests: Serve, plugin_reads: bool) -> None:
    """As Starlette listens for a disconnect while it streams: nothing is lost, nothing is received twice at once."""
    resumer = Resumer()
    callbacks: dict[str, Any] = {"on_request_body": passing} if plugin_reads else {}
    guest = Guest(on_response_headers=pausing, **callbacks, **resumer.callbacks)
    got: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def read() -> None:
            while True:
                message = await receive()
                got.append(message["body"])
                if not message["more_body"]:
                    return

        reading = asyncio.ensure_future(read())
        await settled()
        await send(START)
        await send(body(b"x" * 10, True))
        await reading
        await send(body(b"end"))

    async with serve_guests(app, guest, limits={"response_body": 5}) as middleware:
        connection = Connection(middleware, "POST", headers=CHUNKED)
        await settled()
        for number in range(5):
            connection.feed(b"%d" % number, more=number < 4)
            await settled()
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(RESPONSE)))
        assert (await connection.over()).body == b"x" * 10 + b"end"
    assert b"".join(got) == b"01234"


@pytest.mark.parametrize("direction", [REQUEST, RESPONSE])
async def test_pause_that_nothing_ends_is_told_once(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture, direction: int
) -> None:
    guest = Guest(**{f"on_{('request', 'response')[direction]}_headers": pausing})

    async with serve_guests(answering(b"app"), guest, pause_timeout=0.05) as middleware:
        response = await request(middleware)
        assert (response.status, response.complete) == (504, True)
    assert caplog.text.count("paused a stream for 0.05 s") == 1


async def test_pause_ends_though_the_app_neither_sends_nor_ends(serve_guests: Serve) -> None:
    """A server-sent stream that has nothing to say, behind a plugin that never lets its head go."""
    told = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        while (await receive())["type"] != "http.disconnect":
            pass
        told.set()

    async with serve_guests(app, Guest(on_response_headers=pausing), pause_timeout=0.05) as middleware:
        connection = Connection(middleware)
        assert (await connection.sent(2))[0]["status"] == 504
        # A server tells the app so once the response is complete.
        connection.hang_up()
        await connection.over()
    assert told.is_set()


async def test_slow_plugin_that_is_heard_of_in_time_is_not_cut(serve_guests: Serve) -> None:
    resumer = Resumer()
    guest = Guest(on_request_headers=pausing, **resumer.callbacks)

    async with serve_guests(answering(b"app"), guest, pause_timeout=60) as middleware:
        connection = Connection(middleware)
        connection.feed()
        await settled()
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(REQUEST)))
        assert (await connection.over()).status == 200
        # Its timer is gone: nothing answers a second time.
        await settled()
