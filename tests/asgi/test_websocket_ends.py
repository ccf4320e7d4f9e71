"""How WebSockets end: what is held goes out, what comes too late is refused, and plugins hear of the end in time."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from typing import Any

import pytest

from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from tests.asgi.acting import Resumer, passing, pausing
from tests.asgi.test_websocket import DENIAL, Socket, denying
from tests.asgi.test_websocket_answers import Strict
from tests.driving import settled, until
from tests.guests import CONTINUE, PAUSE, REQUEST_HEADERS, RESPONSE, RESPONSE_BODY, Api, Guest, Serve

ACCEPT: Message = {"type": "websocket.accept"}
CLOSE: Message = {"type": "websocket.close", "code": 1000}
START: Message = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"content-length", b"4")]}
BODY: Message = {"type": "websocket.http.response.body", "body": b"sign", "more_body": False}


def resuming(resumer: Resumer, guest: Guest) -> None:
    resumer.later(lambda api: (api.act_for(guest.created[-1]), api.resume(RESPONSE)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b":path", b"/a\r\nx: 1"),
        (b":path", b"/a b"),
        (b":path", b"/a\x00"),
        (b":scheme", b"a\r\nb"),
        (b":method", b"\n"),
    ],
)
@pytest.mark.parametrize("offered", [True, False])
async def test_a_target_that_no_server_reads_reaches_no_app(
    serve_guests: Serve, name: bytes, value: bytes, offered: bool
) -> None:
    called: list[Scope] = []

    def rewriting(api: Api, *_: int) -> int:
        api.replace(REQUEST_HEADERS, name, value)
        return CONTINUE

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(scope)

    async with serve_guests(app, Guest(on_request_headers=rewriting)) as middleware:
        sent = await Socket(middleware, **(DENIAL if offered else {})).over()
        assert called == []
        told = [(message["type"], message.get("status", message.get("code"))) for message in sent]
        assert told[0] == (("websocket.http.response.start", 503) if offered else ("websocket.close", 1008))


# --- the end, for plugins


@pytest.mark.parametrize("way", ["closes", "hears of the client's leaving", "denies", "is denied", "closes first"])
async def test_the_end_does_not_wait_for_background_work(serve_guests: Serve, way: str) -> None:
    may_end, works = asyncio.Event(), asyncio.Event()

    def on_response_headers(api: Api, *_: int) -> int:
        if way == "is denied":
            api.reply(403, b"no")
            return PAUSE
        return CONTINUE

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if way == "denies":
            await send({**START})
            await send({**BODY})
        elif way == "closes first":
            await send({**CLOSE})
        else:
            await send({**ACCEPT})
            if way == "closes":
                await send({**CLOSE})
            elif way == "hears of the client's leaving":
                assert (await receive())["type"] == "websocket.disconnect"
        works.set()
        await may_end.wait()

    guest = Guest(on_response_headers=on_response_headers)
    async with serve_guests(app, guest) as middleware:
        socket = Socket(middleware, **DENIAL)
        if way == "hears of the client's leaving":
            socket.hang_up()
        await works.wait()
        assert (len(guest.logged), len(guest.deleted)) == (1, 1)
        assert not socket.task.done()
        may_end.set()
        await socket.over()


# --- what is held


@pytest.mark.parametrize("call", ["accept", "close", "denial"])
@pytest.mark.parametrize("raises", [False, True])
async def test_what_a_cancelled_call_has_sent_goes_out_when_the_app_has_ended(
    serve_guests: Serve, call: str, raises: bool
) -> None:
    messages = {"accept": [ACCEPT], "close": [CLOSE], "denial": [START, BODY]}[call]
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing, **resumer.callbacks)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for message in messages:
            sending = asyncio.ensure_future(send({**message}))
            await settled()
            sending.cancel()
            await settled()
        resuming(resumer, guest)
        if raises:
            raise ValueError("on purpose")

    async with serve_guests(app, guest) as middleware:
        socket = Socket(middleware, **DENIAL)
        if raises:
            with pytest.raises(ValueError, match="on purpose"):
                await socket.over()
        else:
            await socket.over()
        assert [message["type"] for message in socket.sent] == [message["type"] for message in messages]


@pytest.mark.parametrize("late", [ACCEPT, CLOSE, START, {"type": "websocket.send", "text": "x"}])
@pytest.mark.parametrize("holds", [True, False])
async def test_what_is_out_of_order_passes_no_held_denial(serve_guests: Serve, late: Message, holds: bool) -> None:
    """A server would refuse it; while a plugin holds the start, the server cannot know."""
    resumer = Resumer()
    seen: list[int] = []

    def on_response_headers(api: Api, context: int, *_: int) -> int:
        seen.append(context)
        return PAUSE if holds else CONTINUE

    guest = Guest(on_response_headers=on_response_headers, **resumer.callbacks)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({**START})
        with pytest.raises(RuntimeError, match=r"Expected ASGI message 'websocket\.http\.response\.body'"):
            await send({**late})
        resuming(resumer, guest)
        await send({**BODY})

    async with serve_guests(app, guest) as middleware:
        sent = await Socket(middleware, **DENIAL).over()
        assert [message["type"] for message in sent] == [START["type"], BODY["type"]]
    assert len(seen) == 1


# --- lengths


@pytest.mark.parametrize("said", [None, 8])
@pytest.mark.parametrize("put", [b"", b"longer than it was", b"no"])
@pytest.mark.parametrize("piece", [0, 1])
async def test_lengths_of_streamed_denials(serve_guests: Serve, said: int | None, put: bytes, piece: int) -> None:
    """True or absent, and never more bytes than were announced, whichever piece a plugin changes."""
    pieces: list[int] = []

    def on_response_body(api: Api, context: int, size: int, end: int) -> int:
        if len(pieces) == piece:
            api.set_body(RESPONSE_BODY, put)
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


@pytest.mark.parametrize("seed", range(20))
async def test_listeners_that_come_and_go_lose_nothing(serve_guests: Serve, seed: int) -> None:
    """While plugins hold the accept, and afterwards: one call of the server at a time, every message once, in order."""
    chance = random.Random(seed)
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing, **resumer.callbacks)
    told: list[str] = []
    errors: list[BaseException] = []

    async def listen(receive: Receive) -> None:
        try:
            message = await receive()
            told.append(message.get("text", message["type"]))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            errors.append(error)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        accept = asyncio.ensure_future(send({**ACCEPT}))
        resumes = chance.randrange(60)
        for turn in range(60):
            listener = asyncio.ensure_future(listen(receive))
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            if turn == resumes:
                resuming(resumer, guest)
                await accept
            if not accept.done() and chance.random() < 0.7:
                listener.cancel()
            await asyncio.wait([listener])
            if "end" in told:
                break
        if not accept.done():
            resuming(resumer, guest)
            await accept
        while "end" not in told and not errors:
            await listen(receive)

    async with serve_guests(app, guest) as middleware:
        socket = Strict(middleware)
        words = [str(number) for number in range(30)] + ["end"]
        for word in words:
            socket.say(word)
            if chance.random() < 0.5:
                await asyncio.sleep(0)
        await socket.over()
    assert errors == []
    assert told == words


# --- connections


@pytest.mark.parametrize(
    "way", ["denied by a plugin", "denied by the app", "closed", "held and left", "refused target"]
)
async def test_nothing_keeps_the_connection_when_it_is_over(serve_guests: Serve, way: str) -> None:
    class Connection:
        def __init__(self) -> None:
            self.messages: list[Message] = [{"type": "websocket.connect"}]

        async def receive(self) -> Message:
            if self.messages:
                return self.messages.pop()
            await asyncio.sleep(0.01)
            return {"type": "websocket.disconnect", "code": 1006}

        async def send(self, message: Message) -> None:
            pass

    def on_request_headers(api: Api, *_: int) -> int:
        if way == "denied by a plugin":
            api.reply(403, b"no")
            return PAUSE
        if way == "refused target":
            api.replace(REQUEST_HEADERS, b":path", b"/ \r\n")
        return CONTINUE

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for message in {"denied by the app": [START, BODY], "closed": [CLOSE]}.get(way, [ACCEPT]):
            await send({**message})

    async def one(middleware: ASGIApp) -> weakref.ref[Connection]:
        connection = Connection()
        scope: dict[str, Any] = {"type": "websocket", "path": "/", "headers": [], "scheme": "ws", **DENIAL}
        await middleware(scope, connection.receive, connection.send)
        return weakref.ref(connection)

    guest = Guest(
        on_request_headers=on_request_headers,
        on_response_headers=pausing if way == "held and left" else passing,
        on_response_body=passing,
    )
    async with serve_guests(app, guest) as middleware:
        await one(middleware)
        gc.collect()
        gc.disable()
        try:
            assert (await one(middleware))() is None
        finally:
            gc.enable()


async def test_an_app_that_is_denied_hears_it_and_goes_on(serve_guests: Serve) -> None:
    """Its frames raise, its receive says that the client has gone, and nothing more reaches the server."""
    told: list[Any] = []

    def denied(api: Api, *_: int) -> int:
        api.reply(403, b"no")
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
