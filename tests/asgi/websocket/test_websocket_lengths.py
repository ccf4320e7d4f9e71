"""WebSockets at their ends"""

from __future__ import annotations

import asyncio
import random
import weakref
from typing import Any

import pytest

from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import Resumer, passing, pausing
from tests.asgi.websocket.sockets import (
    ACCEPT,
    BODY,
    CLOSE,
    DENIAL,
    START,
    Leaving,
    Socket,
    Strict,
    assert_let_go_of,
    denying,
    resuming,
)
from tests.driving import until
from tests.guests import CONTINUE, PAUSE, REQUEST_HEADERS, RESPONSE_BODY, Guest, Serve


@pytest.mark.parametrize("said", [None, 8])
@pytest.mark.parametrize("put", [b"", b"longer than it was", b"no"])
@pytest.mark.parametrize("piece", [0, 1])
async def test_lengths_of_streamed_denials(serve_guests: Serve, said: int | None, put: bytes, piece: int) -> None:
    """True or absent, and never more bytes than were announced, whichever piece a plugin changes."""
    pieces: list[int] = []

    def on_response_body(api: Hostcalls, context: int, size: int, end: int) -> int:
        if len(pieces) == piece:
            api.set_buffer_bytes(RESPONSE_BODY, put)
        pieces.append(size)
        return CONTINUE

    headers = [] if said is None else [(b"content-length", b"%d" % said)]
    messages = [
        {**START, "headers": headers},
        {"type": BODY["type"], "body": b"sign", "more_body": True},
        {"type": BODY["type"], "body": b" in.", "more_body": False},
    ]

    async with serve_guests(denying(*messages), Guest(on_response_body=on_response_body)) as middleware:
        sent = await Socket(middleware, **DENIAL).over()
    announced = dict(sent[0]["headers"]).get(b"content-length")
    body = b"".join(message.get("body", b"") for message in sent[1:])
    whole = [b"sign", b" in."]
    whole[piece] = put
    complete = not sent[-1].get("more_body", False)
    if announced is None:
        assert (body, complete) == (b"".join(whole), True)
    else:
        assert b"".join(whole).startswith(body)
        assert len(body) == int(announced) if complete else len(body) < int(announced)


# --- receiving


class Ears:
    """What listeners of a connection are told, and what they fail by."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.errors: list[BaseException] = []

    async def listen(self, receive: Receive) -> None:
        try:
            message = await receive()
            self.told.append(message.get("text", message["type"]))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.errors.append(error)


async def tell(socket: Socket, words: list[str], chance: random.Random) -> None:
    """As a client does that is sometimes slower than the app; until the app is done."""
    for word in words:
        socket.say(word)
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    await socket.over()


@pytest.mark.parametrize("seed", range(20))
async def test_listeners_that_come_and_go_lose_nothing(serve_guests: Serve, seed: int) -> None:
    """While plugins hold the accept, and afterwards: one call of the server at a time, every message once, in order."""
    chance = random.Random(seed)
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing, **resumer.callbacks)
    ears = Ears()

    async def come_and_go(receive: Receive, accept: asyncio.Future[None]) -> None:
        resumes = chance.randrange(60)
        for turn in range(60):
            listener = asyncio.ensure_future(ears.listen(receive))
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            if turn == resumes:
                resuming(resumer, guest)
                await accept
            if not accept.done() and chance.random() < 0.7:
                listener.cancel()
            await asyncio.wait([listener])
            if "end" in ears.told:
                break

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        accept = asyncio.ensure_future(send({**ACCEPT}))
        await come_and_go(receive, accept)
        if not accept.done():
            resuming(resumer, guest)
            await accept
        while "end" not in ears.told and not ears.errors:
            await ears.listen(receive)

    words = [str(number) for number in range(30)] + ["end"]
    async with serve_guests(app, guest) as middleware:
        await tell(Strict(middleware), words, chance)
    assert (ears.told, ears.errors) == (words, [])


# --- connections


@pytest.mark.parametrize(
    "way", ["denied by a plugin", "denied by the app", "closed", "held and left", "refused target"]
)
async def test_nothing_keeps_the_connection_when_it_is_over(serve_guests: Serve, way: str) -> None:
    def on_request_headers(api: Hostcalls, *_: int) -> int:
        if way == "denied by a plugin":
            api.send_local_response(403, b"no")
            return PAUSE
        if way == "refused target":
            api.replace_header_map_value(REQUEST_HEADERS, b":path", b"/ \r\n")
        return CONTINUE

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for message in {"denied by the app": [START, BODY], "closed": [CLOSE]}.get(way, [ACCEPT]):
            await send({**message})

    async def one(middleware: ASGIApp) -> weakref.ref[Leaving]:
        connection = Leaving()
        scope: dict[str, Any] = {"type": "websocket", "path": "/", "headers": [], "scheme": "ws", **DENIAL}
        await middleware(scope, connection.receive, connection.send)
        return weakref.ref(connection)

    guest = Guest(
        on_request_headers=on_request_headers,
        on_response_headers=pausing if way == "held and left" else passing,
        on_response_body=passing,
    )
    async with serve_guests(app, guest) as middleware:
        await assert_let_go_of(lambda: one(middleware))


async def test_an_app_that_is_denied_hears_it_and_goes_on(serve_guests: Serve) -> None:
    """Its frames raise, its receive says that the client has gone, and nothing more reaches the server."""
    told: list[Any] = []

    def denied(api: Hostcalls, *_: int) -> int:
        api.send_local_response(403, b"no")
        return PAUSE

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({**ACCEPT})
        for _ in range(3):
            told.append((await receive())["type"])
            try:
                await send({"type": "websocket.send", "text": "x"})
            except OSError:
                told.append("raised")
        await send({**CLOSE})

    async with serve_guests(app, Guest(on_response_headers=denied)) as middleware:
        socket = Socket(middleware, **DENIAL)
        await until(lambda: len(told) == 6)
        assert [message["type"] for message in await socket.over()] == [START["type"], BODY["type"]]
    assert told == ["websocket.disconnect", "raised"] * 3
