"""Extensions of servers."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from tests.asgi.acting import Resumer, passing, pausing
from tests.asgi.exchange.messages import LENGTH, START, body
from tests.driving import Connection, answering, request, settled
from tests.guests import (
    RESPONSE,
    Guest,
    Serve,
)

EXTENSIONS: dict[str, Any] = {
    "http.response.pathsend": {},
    "http.response.zerocopysend": {},
    "http.response.early_hint": {},
    "http.response.push": {},
    "http.response.debug": {},
    "tls": {"server_name": "example.test"},
}


@pytest.mark.parametrize("reads_body", [True, False])
async def test_extensions_that_bypass_plugins_are_hidden_only_from_body_plugins(
    serve_guests: Serve, reads_body: bool
) -> None:
    offered: list[set[str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        offered.append(set(scope["extensions"]))
        await answering(b"")(scope, receive, send)

    guest = Guest(**{"on_response_body" if reads_body else "on_response_headers": passing})
    async with serve_guests(app, guest) as middleware:
        extensions = dict(EXTENSIONS)
        await request(middleware, extensions=extensions)
        assert extensions == EXTENSIONS
    hidden = {"http.response.pathsend", "http.response.zerocopysend"} if reads_body else set()
    assert offered == [set(EXTENSIONS) - hidden]


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "http.response.early_hint", "links": [b"</a.css>"]}, START, body(b"x")],
        [{"type": "http.response.push", "path": "/a", "headers": []}, START, body(b"x")],
        [{"type": "http.response.debug", "info": {"template": 1}}, START, body(b"x")],
        [START, {"type": "http.response.pathsend", "path": "/a"}],
        [START, {"type": "http.response.zerocopysend", "file": 1, "more_body": True}, body(b"x")],
    ],
    ids=lambda messages: messages[0]["type"] if messages[0] is not START else messages[1]["type"],
)
@pytest.mark.parametrize("pauses", [False, True])
async def test_messages_of_extensions_pass_in_order(serve_guests: Serve, messages: list[Message], pauses: bool) -> None:
    """Also when a plugin holds the head: nothing of the body comes before it."""
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing if pauses else passing, **resumer.callbacks)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware, extensions=EXTENSIONS)
        await settled()
        if pauses:
            resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(RESPONSE)))
        response = await connection.over()
        assert [message["type"] for message in response.messages] == [message["type"] for message in messages]


async def test_file_that_was_sent_is_a_whole_response(serve_guests: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A plugin that answers later is too late, since the stream is over, and nothing is cut."""
    resumer = Resumer()
    guest = Guest(on_response_headers=passing, **resumer.callbacks)
    acted: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.pathsend", "path": "/a"})
        resumer.later(lambda api: acted.append(api.raw("set_effective_context", guest.created[0])))
        await resumer.done()
        # BAD_ARGUMENT: there is no such context any more.
        assert acted == [2]

    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware)
        assert len((await connection.over()).messages) == 2
    assert "cut off" not in caplog.text


async def test_unknown_messages_of_the_server_reach_the_app(serve_guests: Serve) -> None:
    got: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append((await receive())["type"])
        got.append((await receive())["type"])
        await answering(b"")(scope, receive, send)

    async with serve_guests(app, Guest(on_request_body=passing)) as middleware:
        connection = Connection(middleware, "POST", headers=LENGTH)
        connection.incoming.put_nowait({"type": "http.novelty"})
        connection.feed(b"abc", more=True)
        connection.feed(b"def")
        await connection.over()
    assert got == ["http.novelty", "http.request"]
