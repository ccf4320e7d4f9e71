"""Apps that go wrong."""

from __future__ import annotations

import logging

import pytest

from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import passing
from tests.asgi.exchange.messages import LENGTH, START, body
from tests.driving import Connection, request, settled
from tests.guests import PAUSE, RESPONSE, Guest, Serve


async def test_app_that_raises_before_the_response(serve_guests: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("the app's own")

    async with serve_guests(app, Guest(on_request_headers=passing)) as middleware:
        connection = Connection(middleware)
        with pytest.raises(ValueError, match="the app's own"):
            await connection.over()
        assert connection.response.messages == []


@pytest.mark.parametrize("held", [False, True])
async def test_app_that_raises_after_the_response_started(serve_guests: Serve, held: bool) -> None:
    """A head that is still held never goes out: the server can make a 500 of it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-length", b"3")] if held else []})
        raise ValueError("the app's own")

    async with serve_guests(app, Guest(on_response_body=passing)) as middleware:
        connection = Connection(middleware)
        with pytest.raises(ValueError, match="the app's own"):
            await connection.over()
        assert len(connection.response.messages) == (0 if held else 1)


async def test_app_that_raises_after_a_plugin_answered(serve_guests: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise ValueError("the app's own")

    def on_body(api: Hostcalls, *_: int) -> int:
        api.send_local_response(403)
        return PAUSE

    async def main() -> None:
        async with serve_guests(app, Guest(on_request_body=on_body)) as middleware:
            connection = Connection(middleware, "POST", headers=LENGTH)
            await settled()
            # The app runs before the body is here.
            connection.feed(b"abcdef")
            assert (await connection.over()).status == 403

    with caplog.at_level(logging.INFO, logger="asgi_wasm.host"):
        await main()
    assert "the app raised ValueError after a plugin had answered: the app's own" in caplog.text
    assert "Traceback" not in caplog.text


async def test_app_that_streams_on_after_a_plugin_ended_the_response(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Its `send` raises, so that it ends; that is the plugin's doing, and one line of the log without any stack."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})

    def on_body(api: Hostcalls, *_: int) -> int:
        api.close_stream(RESPONSE)
        return PAUSE

    with caplog.at_level(logging.INFO, logger="asgi_wasm.host"):
        async with serve_guests(app, Guest(on_response_body=on_body)) as middleware:
            assert not (await request(middleware)).body
    assert "the app raised OSError after a plugin had answered: a plugin has answered" in caplog.text
    assert "Traceback" not in caplog.text


async def test_app_that_returns_without_a_response(serve_guests: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    async with serve_guests(app, Guest(on_response_headers=passing)) as middleware:
        assert (await request(middleware)).messages == []


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([body(b"x")], "body before"),
        ([START, START], "start"),
        ([START, body(b"x"), body(b"y")], "after"),
        ([{"type": "http.response.nonsense"}], None),
    ],
)
@pytest.mark.parametrize("held", [False, True])
async def test_app_that_sends_wrong_messages(
    serve_guests: Serve, messages: list[Message], complaint: str | None, held: bool
) -> None:
    """The server's own complaint, or one like it, reaches the app; what nobody knows passes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            if held and message["type"] == "http.response.start":
                message = {**message, "headers": [(b"content-length", b"1")]}
            await send(message)

    async with serve_guests(app, Guest(on_response_body=passing)) as middleware:
        connection = Connection(middleware)
        if complaint is None:
            assert (await connection.over()).messages == messages
        else:
            with pytest.raises(RuntimeError, match=complaint):
                await connection.over()
