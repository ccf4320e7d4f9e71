"""An app's answer to a WebSocket's handshake: held, denied, left alone, with a body."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import pytest

from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import Resumer, passing, pausing
from tests.asgi.websocket.sockets import DENIAL, Leaving, Socket, Strict, accepting, assert_let_go_of, denying
from tests.driving import settled, until
from tests.guests import PAUSE, RESPONSE, RESPONSE_BODY, RESPONSE_HEADERS, Guest, Serve

START: Message = {"type": "websocket.http.response.start", "status": 401, "headers": []}


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "websocket.http.response.body", "body": data, "more_body": more}


async def test_client_that_leaves_while_the_accept_is_held(serve_guests: Serve) -> None:
    """The app hears of it, and nothing waits for the pause to be given up. Its answer goes to nobody, as bare."""
    told: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        told.append((await receive())["type"])
        await send({"type": "websocket.accept"})
        told.append((await receive())["type"])
        with pytest.raises(OSError, match="nobody is there"):
            await send({"type": "websocket.send", "text": "x"})
        await send({"type": "websocket.close"})

    guest = Guest(on_response_headers=pausing)
    async with serve_guests(app, guest, pause_timeout=3600) as middleware:
        socket = Socket(middleware)
        await settled()
        socket.hang_up()
        assert [message["type"] for message in await socket.over()] == ["websocket.accept", "websocket.close"]
        assert len(guest.deleted) == 1
    assert told == ["websocket.connect", "websocket.disconnect"]


@pytest.mark.parametrize("handles", [True, False])
async def test_app_whose_accept_a_plugin_denied(serve_guests: Serve, handles: bool) -> None:
    """What it sends and raises then is of no account; it is told that the client has gone."""
    told: list[str] = []

    def deny(api: Hostcalls, *_: int) -> int:
        if not denied:
            denied.append(1)
            api.send_local_response(403, b"no")
        return 0

    denied: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        told.append((await receive())["type"])
        await send({"type": "websocket.close"})
        try:
            await send({"type": "websocket.send", "text": "x"})
        except OSError:
            if not handles:
                raise RuntimeError("the framework's own") from None
            raise

    async with serve_guests(app, Guest(on_response_headers=deny)) as middleware:
        start, *_ = await Socket(middleware, **DENIAL).over()
        assert start["status"] == 403
    assert told == ["websocket.disconnect"]


@pytest.mark.parametrize(("verdict", "length"), [(PAUSE, True), (PAUSE, False), (0, False)])
async def test_denial_with_a_body_that_a_plugin_changes(serve_guests: Serve, verdict: int, length: bool) -> None:
    seen: list[tuple[bytes, int]] = []

    def on_response_body(api: Hostcalls, context: int, size: int, end: int) -> int:
        seen.append((api.get_buffer_bytes(RESPONSE_BODY), end))
        if not end:
            return verdict
        api.set_buffer_bytes(RESPONSE_BODY, b"replaced")
        return 0

    headers = [(b"content-length", b"7")] if length else []

    pieces = [{**START, "headers": headers}, body(b"not ", more=True), body(b"you")]
    async with serve_guests(denying(*pieces), Guest(on_response_body=on_response_body)) as middleware:
        start, *bodies = await Socket(middleware, **DENIAL).over()
        sent = b"".join(message["body"] for message in bodies)
        assert sent == (b"replaced" if verdict == PAUSE else b"not replaced")
        assert dict(start["headers"]).get(b"content-length") in (None, b"%d" % len(sent))
        assert [message["more_body"] for message in bodies][-1] is False
    assert seen == [(b"not ", 0), (b"not you" if verdict == PAUSE else b"you", 1)]


async def test_denial_whose_body_is_held_at_its_end(serve_guests: Serve) -> None:
    resumer = Resumer()
    guest = Guest(on_response_body=pausing, **resumer.callbacks)

    async with serve_guests(denying(START, body(b"no")), guest) as middleware:
        socket = Socket(middleware, **DENIAL)
        await settled()
        assert socket.sent == [START]
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(RESPONSE)))
        assert b"".join(message.get("body", b"") for message in await socket.over()) == b"no"


async def test_denial_that_a_plugin_answers_in_its_stead(serve_guests: Serve) -> None:
    answered: list[int] = []

    def on_response_headers(api: Hostcalls, *_: int) -> int:
        if not answered:
            answered.append(1)
            api.send_local_response(418, b"mine")
        return 0

    guest = Guest(on_response_headers=on_response_headers)
    async with serve_guests(denying(START, body(b"no")), guest) as middleware:
        start, *bodies = await Socket(middleware, **DENIAL).over()
        assert start["status"] == 418
        assert b"".join(message["body"] for message in bodies) == b"mine"


@pytest.mark.parametrize("changed", [False, True])
async def test_response_code_is_what_was_sent(serve_guests: Serve, changed: bool) -> None:
    codes: list[int] = []

    def on_response_headers(api: Hostcalls, *_: int) -> int:
        if changed:
            api.replace_header_map_value(RESPONSE_HEADERS, b":status", b"200")
        return 0

    def on_log(api: Hostcalls, context: int) -> None:
        codes.append(int.from_bytes(api.get_property(b"response\0code") or b"", "little"))

    async with serve_guests(accepting(), Guest(on_response_headers=on_response_headers, on_log=on_log)) as app:
        socket = Socket(app)
        socket.hang_up()
        await socket.over()
    assert codes == [101]


@pytest.mark.parametrize("cancels", [True, False])
async def test_one_receive_at_a_time(serve_guests: Serve, cancels: bool) -> None:
    """An app that listens in one task while another's accept is held; its cancelled listening loses nothing."""
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing, **resumer.callbacks)
    told: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        accept = asyncio.ensure_future(send({"type": "websocket.accept"}))
        listening = [asyncio.ensure_future(receive()) for _ in range(2)]
        await settled()
        if cancels:
            listening.pop().cancel()
            await settled()
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(RESPONSE)))
        await accept
        told.extend(message["type"] for message in await asyncio.gather(*listening))

    async with serve_guests(app, guest) as middleware:
        socket = Strict(middleware)
        await until(lambda: bool(socket.sent))
        socket.say("one")
        socket.say("two")
        await socket.over()
    assert told == ["websocket.receive"] * (1 if cancels else 2)


async def test_accept_that_is_cancelled_while_it_is_held(serve_guests: Serve) -> None:
    """The plugins have seen it, so the next call goes on with it: one answer, one `on_response_headers`."""
    resumer = Resumer()
    answers: list[int] = []

    def on_response_headers(api: Hostcalls, context: int, *_: int) -> int:
        answers.append(context)
        return PAUSE

    guest = Guest(on_response_headers=on_response_headers, **resumer.callbacks)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        accept = asyncio.ensure_future(send({"type": "websocket.accept"}))
        await settled()
        accept.cancel()
        await settled()
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(RESPONSE)))
        await send({"type": "websocket.close", "code": 1000})

    async with serve_guests(app, guest) as middleware:
        sent = await Socket(middleware).over()
        assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert len(answers) == 1


@pytest.mark.parametrize("path", ["/ends", "/raises", "/paused"])
async def test_nothing_keeps_the_connection_when_it_is_over(serve_guests: Serve, path: str) -> None:
    """A server that closes a connection when nobody refers to it does so at once, not when garbage is collected."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/raises":
            raise ValueError("on purpose")

    async def one(middleware: ASGIApp) -> weakref.ref[Leaving]:
        connection = Leaving()
        scope = {"type": "websocket", "path": path, "headers": [], "query_string": b"", "scheme": "ws"}
        try:
            await middleware(scope, connection.receive, connection.send)
        except ValueError:
            assert path == "/raises"
        return weakref.ref(connection)

    guest = Guest(on_response_headers=pausing if path == "/paused" else passing)
    async with serve_guests(app, guest) as middleware:
        await assert_let_go_of(lambda: one(middleware))
