"""What plugins write into the heads of a WebSocket's handshake: subprotocols, and fields that are the server's."""

from __future__ import annotations

import pytest

from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.websocket.sockets import Socket, accepting
from tests.driving import until
from tests.guests import REQUEST_HEADERS, RESPONSE_HEADERS, Guest, Serve

PROTOCOL = b"sec-websocket-protocol"


@pytest.mark.parametrize(
    ("written", "subprotocols"), [(b"two", ["two"]), (b"three, two ,", ["three", "two"]), (None, []), (b"", [])]
)
@pytest.mark.parametrize("named", [True, False])
async def test_subprotocols_that_a_plugin_offers(
    serve_guests: Serve, written: bytes | None, subprotocols: list[str], named: bool
) -> None:
    """The header and the scope's own list are one, also where the server tells only the list."""
    scopes: list[Scope] = []
    seen: list[bytes | None] = []

    def on_request_headers(api: Hostcalls, *_: int) -> int:
        seen.append(api.get_header_map_value(REQUEST_HEADERS, PROTOCOL))
        if written is None:
            api.remove_header_map_value(REQUEST_HEADERS, PROTOCOL)
        else:
            api.replace_header_map_value(REQUEST_HEADERS, PROTOCOL, written)
        return 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)

    async with serve_guests(app, Guest(on_request_headers=on_request_headers)) as middleware:
        socket = Socket(middleware)
        if named:
            socket.scope["headers"] = [*socket.scope["headers"], (PROTOCOL, b"chat")]
        await socket.over()
    assert seen == [b"chat"]
    assert scopes[0]["subprotocols"] == subprotocols
    assert [value for name, value in scopes[0]["headers"] if name == PROTOCOL] == ([] if written is None else [written])


@pytest.mark.parametrize(
    ("written", "chosen", "left_out"),
    [(b"two", "two", False), (None, None, False), (b"other", None, True), (b"chat", "chat", False)],
)
async def test_subprotocol_of_the_accept(
    serve_guests: Serve,
    caplog: pytest.LogCaptureFixture,
    written: bytes | None,
    chosen: str | None,
    left_out: bool,
) -> None:
    seen: list[bytes | None] = []

    def on_response_headers(api: Hostcalls, *_: int) -> int:
        seen.append(api.get_header_map_value(RESPONSE_HEADERS, PROTOCOL))
        if written is None:
            api.remove_header_map_value(RESPONSE_HEADERS, PROTOCOL)
        else:
            api.replace_header_map_value(RESPONSE_HEADERS, PROTOCOL, written)
        return 0

    app = accepting(subprotocol="chat", headers=[(b"x-app", b"1")])
    async with serve_guests(app, Guest(on_response_headers=on_response_headers)) as middleware:
        socket = Socket(middleware)
        socket.scope["subprotocols"] = ["chat", "two"]
        await until(lambda: bool(socket.sent))
        socket.hang_up()
        (accept,) = await socket.over()
        assert accept == {"type": "websocket.accept", "subprotocol": chosen, "headers": [(b"x-app", b"1")]}
    assert seen == [b"chat"]
    assert ("left out headers" in caplog.text) is left_out


async def test_headers_of_the_handshake_that_a_plugin_writes(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """The server says them itself; what it would make of two is its own affair."""

    def on_response_headers(api: Hostcalls, *_: int) -> int:
        for name in (b"upgrade", b"connection", b"sec-websocket-accept", b"content-length"):
            api.add_header_map_value(RESPONSE_HEADERS, name, b"1")
        return 0

    async with serve_guests(accepting(), Guest(on_response_headers=on_response_headers)) as middleware:
        socket = Socket(middleware)
        await until(lambda: bool(socket.sent))
        socket.hang_up()
        assert (await socket.over())[0]["headers"] == []
    assert "left out headers that HTTP cannot carry: upgrade, connection, sec-websocket-accept" in caplog.text
