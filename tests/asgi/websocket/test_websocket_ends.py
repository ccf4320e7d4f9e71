"""How WebSockets end: what is held goes out, what comes too late is refused, and plugins hear of the end in time."""

from __future__ import annotations

import asyncio

import pytest

from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import Resumer, pausing
from tests.asgi.websocket.sockets import ACCEPT, BODY, CLOSE, DENIAL, START, Socket, resuming
from tests.driving import settled
from tests.guests import CONTINUE, PAUSE, REQUEST_HEADERS, Guest, Serve


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

    def rewriting(api: Hostcalls, *_: int) -> int:
        api.replace_header_map_value(REQUEST_HEADERS, name, value)
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

    def on_response_headers(api: Hostcalls, *_: int) -> int:
        if way == "is denied":
            api.send_local_response(403, b"no")
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

    def on_response_headers(api: Hostcalls, context: int, *_: int) -> int:
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
