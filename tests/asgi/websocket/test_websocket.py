"""A WebSocket handshake through the plugins: accept, denial by app or plugin, every way to end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from asgi_wasm.engines.null import GuestTrap
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import Resumer, passing, pausing
from tests.asgi.websocket.sockets import DENIAL, Socket, accepting, denying
from tests.driving import settled, until
from tests.guests import PAUSE, REQUEST, REQUEST_HEADERS, RESPONSE_HEADERS, Guest, Serve


async def test_accept_with_headers_and_subprotocol(serve_guests: Serve) -> None:
    """The plugins see a GET over http, as in Envoy, and a 101; what they add is there on both sides."""
    seen: list[Any] = []
    scopes: list[Scope] = []

    def on_request_headers(api: Hostcalls, context: int, count: int, end: int) -> int:
        seen.extend(api.get_header_map_value(REQUEST_HEADERS, name) for name in (b":method", b":scheme"))
        seen.append(end)
        api.add_header_map_value(REQUEST_HEADERS, b"x-user", b"alice")
        api.set_property(b"user", b"alice")
        return 0

    def on_response_headers(api: Hostcalls, context: int, count: int, end: int) -> int:
        seen.append(api.get_header_map_value(RESPONSE_HEADERS, b":status"))
        api.add_header_map_value(RESPONSE_HEADERS, b"x-plugin", b"1")
        return 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await accepting(subprotocol="chat", headers=[(b"x-app", b"1")])(scope, receive, send)

    guest = Guest(
        on_request_headers=on_request_headers,
        on_response_headers=on_response_headers,
        on_log=lambda api, context: seen.append(api.get_property(b"request\0duration") is not None),
    )
    async with serve_guests(app, guest) as middleware:
        socket = Socket(middleware)
        socket.say("hello")
        await until(lambda: len(socket.sent) == 2)
        socket.hang_up()
        accept, echo = await socket.over()
        headers = [(b"x-app", b"1"), (b"x-plugin", b"1")]
        assert accept == {"type": "websocket.accept", "subprotocol": "chat", "headers": headers}
        assert echo["text"] == "hello" and "asgi_wasm" not in socket.scope
    assert seen == [b"GET", b"http", 0, b"101", True]
    (scope,) = scopes
    assert (b"x-user", b"alice") in scope["headers"] and scope["asgi_wasm"]["user"] == b"alice"
    assert (scope["scheme"], scope["subprotocols"]) == ("ws", ["chat"])
    assert "method" not in scope


@pytest.mark.parametrize(("written", "scheme"), [(b"https", "wss"), (b"http", "ws"), (b"wss", "wss")])
async def test_scheme_that_a_plugin_writes(serve_guests: Serve, written: bytes, scheme: str) -> None:
    seen: list[Any] = []
    guest = Guest(on_request_headers=lambda api, *_: api.replace_header_map_value(REQUEST_HEADERS, b":scheme", written))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["scheme"])

    async with serve_guests(app, guest) as middleware:
        await Socket(middleware, scheme="ws" if scheme == "wss" else "wss").over()
    assert seen == [scheme]


async def test_denied_by_the_app(serve_guests: Serve) -> None:
    close = {"type": "websocket.close", "code": 4000, "reason": "no"}
    seen: list[Any] = []
    guest = Guest(
        on_response_headers=lambda api, context, count, end: seen.append(
            api.get_header_map_value(RESPONSE_HEADERS, b":status")
        )
    )

    async with serve_guests(denying(close), guest) as middleware:
        assert await Socket(middleware).over() == [close]
    assert seen == [b"403"]


async def test_denied_by_the_app_with_a_response(serve_guests: Serve) -> None:
    """Plugins see and change its head."""
    start = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-app", b"1")]}
    end = {"type": "websocket.http.response.body", "body": b"no"}

    def on_response_headers(api: Hostcalls, *_: int) -> int:
        api.replace_header_map_value(RESPONSE_HEADERS, b":status", b"402")
        api.add_header_map_value(RESPONSE_HEADERS, b"x-plugin", b"1")
        return 0

    async with serve_guests(denying(start, end), Guest(on_response_headers=on_response_headers)) as middleware:
        sent = await Socket(middleware, **DENIAL).over()
        headers = [(b"x-app", b"1"), (b"x-plugin", b"1")]
        assert sent == [{**start, "status": 402, "headers": headers}, {**end, "more_body": False}]


@pytest.mark.parametrize("offered", [True, False])
@pytest.mark.parametrize("phase", ["request", "response"])
async def test_denied_by_a_plugin(serve_guests: Serve, phase: str, offered: bool) -> None:
    def deny(api: Hostcalls, *_: int) -> int:
        if not replied:
            replied.append(True)
            api.send_local_response(401, b"who are you?", [(b"x-why", b"1")])
        return PAUSE if phase == "request" else 0

    replied: list[bool] = []

    async with serve_guests(accepting(), Guest(**{f"on_{phase}_headers": deny})) as middleware:
        socket = Socket(middleware, **(DENIAL if offered else {}))
        if phase == "response":
            socket.hang_up()
        sent = await socket.over()
        if offered:
            start, *bodies = sent
            assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
            assert (b"x-why", b"1") in start["headers"]
            assert [message["type"] for message in bodies] == ["websocket.http.response.body"] * len(bodies)
            assert b"".join(message["body"] for message in bodies) == b"who are you?"
        else:
            assert sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]


@pytest.mark.parametrize(("policy", "kinds"), [("fail_closed", ["start", "body"]), ("fail_open", ["accept"])])
async def test_plugin_that_traps(serve_guests: Serve, policy: str, kinds: list[str]) -> None:
    def trap(api: Hostcalls, *_: int) -> int:
        raise GuestTrap("on purpose")

    entries = [{"failure_policy": policy}]
    async with serve_guests(accepting(), Guest(on_request_headers=trap), traps=True, entries=entries) as middleware:
        socket = Socket(middleware, **DENIAL)
        if policy == "fail_open":
            socket.hang_up()
        sent = await socket.over()
        assert [message["type"].rpartition(".")[2] for message in sent] == kinds
        assert sent[0].get("status") == (503 if policy == "fail_closed" else None)


@pytest.mark.parametrize("way", ["reply", "close"])
async def test_plugin_that_ends_an_open_connection(serve_guests: Serve, way: str) -> None:
    resumer = Resumer()
    guest = Guest(on_request_headers=passing, **resumer.callbacks)
    raised: list[OSError] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        assert (await receive())["type"] == "websocket.disconnect"
        try:
            await send({"type": "websocket.send", "text": "more"})
        except OSError as error:
            raised.append(error)
        await send({"type": "websocket.close", "code": 1000})

    async with serve_guests(app, guest) as middleware:
        socket = Socket(middleware)
        await until(lambda: bool(socket.sent))
        resumer.later(
            lambda api: (
                api.set_effective_context(guest.created[0]),
                api.send_local_response(403) if way == "reply" else api.close_stream(REQUEST),
            )
        )
        sent = await socket.over()
        assert sent == [
            {"type": "websocket.accept", "headers": []},
            {"type": "websocket.close", "code": 1011, "reason": ""},
        ]
    assert len(raised) == 1


async def test_plugin_that_closes_the_handshake(serve_guests: Serve) -> None:
    guest = Guest(on_request_headers=lambda api, *_: api.close_stream(REQUEST))
    async with serve_guests(accepting(), guest) as middleware:
        assert [message["type"] for message in await Socket(middleware, **DENIAL).over()] == ["websocket.close"]


async def test_client_gone_before_it_is_denied(serve_guests: Serve) -> None:
    """Nobody is there to be told."""

    def deny(api: Hostcalls, *_: int) -> int:
        api.send_local_response(401)
        return PAUSE

    async with serve_guests(accepting(), Guest(on_request_headers=deny)) as middleware:
        socket = Socket(middleware, **DENIAL)
        socket.incoming.get_nowait()
        socket.hang_up()
        assert await socket.over() == []


async def test_app_that_answers_a_client_that_has_gone(serve_guests: Serve) -> None:
    """Its answer is held by a plugin when the client goes."""
    resumer = Resumer()
    guest = Guest(on_request_headers=pausing, **resumer.callbacks)
    told: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        told.extend([(await receive())["type"], (await receive())["type"]])

    async with serve_guests(app, guest) as middleware:
        socket = Socket(middleware)
        await settled()
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(REQUEST)))
        await resumer.done()
        socket.hang_up()
        assert await socket.over() == []
    assert told == ["websocket.connect", "websocket.disconnect"]


async def test_messages_that_are_not_known_pass(serve_guests: Serve) -> None:
    early: Message = {"type": "websocket.novelty"}

    close = {"type": "websocket.close", "code": 1000}
    async with serve_guests(denying(early, close), Guest(on_request_headers=passing)) as middleware:
        assert await Socket(middleware).over() == [early, close]


async def test_headers_that_cannot_be_sent(serve_guests: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def on_headers(map_type: int) -> Any:
        return lambda api, *_: api.add_header_map_value(map_type, b"x-evil", b"a\r\nb: c")

    guest = Guest(on_request_headers=on_headers(REQUEST_HEADERS), on_response_headers=on_headers(RESPONSE_HEADERS))
    async with serve_guests(accepting(), guest) as middleware:
        socket = Socket(middleware)
        socket.hang_up()
        assert (await socket.over())[0]["headers"] == []
    # Of the request and of the response: an equal line is written once a minute.
    assert caplog.text.count("left out headers that HTTP cannot carry: x-evil") == 1


@pytest.mark.parametrize("state", ["request", "response", "open"])
async def test_cancelled(serve_guests: Serve, state: str) -> None:
    guest = Guest(**{f"on_{state}_headers": pausing} if state != "open" else {"on_request_headers": passing})
    async with serve_guests(accepting(), guest) as middleware:
        socket = Socket(middleware)
        await settled()
        socket.task.cancel()
        await asyncio.wait([socket.task])
        assert len(guest.deleted) == 1
