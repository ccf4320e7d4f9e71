"""A WebSocket's handshake that a plugin holds: it goes on, ends by itself, or its client goes."""

from __future__ import annotations

import pytest

from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import Resumer, pausing
from tests.asgi.websocket.sockets import DENIAL, Socket, accepting
from tests.driving import settled, until
from tests.guests import PAUSE, REQUEST, RESPONSE, Guest, Serve


async def test_denial_whose_own_way_back_is_paused(serve_guests: Serve) -> None:
    """A local response travels through the response callbacks, and one of them takes its time."""
    resumer = Resumer()

    def deny(api: Hostcalls, *_: int) -> int:
        api.send_local_response(401, b"no")
        return PAUSE

    guest = Guest(on_request_headers=deny, on_response_headers=pausing, **resumer.callbacks)
    async with serve_guests(accepting(), guest) as middleware:
        socket = Socket(middleware, **DENIAL)
        await settled()
        assert socket.sent == []
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(RESPONSE)))
        assert [message["type"] for message in await socket.over()] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]


@pytest.mark.parametrize("direction", [REQUEST, RESPONSE])
async def test_pause_then_resume(serve_guests: Serve, direction: int) -> None:
    resumer = Resumer()
    guest = Guest(**{f"on_{('request', 'response')[direction]}_headers": pausing}, **resumer.callbacks)

    async with serve_guests(accepting(), guest) as middleware:
        socket = Socket(middleware)
        await settled()
        assert socket.sent == []
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(direction)))
        await until(lambda: bool(socket.sent))
        # The message that was waited for during the pause is not lost.
        socket.say("hello")
        await until(lambda: len(socket.sent) == 2)
        socket.hang_up()
        assert [message["type"] for message in await socket.over()] == ["websocket.accept", "websocket.send"]


@pytest.mark.parametrize("direction", [REQUEST, RESPONSE])
async def test_pause_that_nothing_ends(serve_guests: Serve, caplog: pytest.LogCaptureFixture, direction: int) -> None:
    guest = Guest(**{f"on_{('request', 'response')[direction]}_headers": pausing})

    async with serve_guests(accepting(), guest, pause_timeout=0.05) as middleware:
        # The app, if it was called, goes on as if it had accepted: it is told that the client has gone.
        socket = Socket(middleware, **DENIAL)
        if direction == RESPONSE:
            await until(lambda: bool(socket.sent))
            socket.hang_up()
        assert (await socket.over())[0]["status"] == 504
    assert caplog.text.count("paused a stream for 0.05 s") == 1


async def test_client_gone_while_paused(serve_guests: Serve) -> None:
    guest = Guest(on_request_headers=pausing)
    async with serve_guests(accepting(), guest) as middleware:
        socket = Socket(middleware)
        await settled()
        socket.hang_up()
        assert await socket.over() == []
        assert len(guest.deleted) == 1
