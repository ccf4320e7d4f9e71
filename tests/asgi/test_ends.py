"""How exchanges end when much happens at once: apps that raise, clients that leave, pauses that nobody ends."""

from __future__ import annotations

import asyncio

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import Resumer, passing, pausing
from tests.driving import Connection, answering, http_scope, request, settled, until
from tests.guests import CONTINUE, PAUSE, REQUEST, REQUEST_HEADERS, RESPONSE, RESPONSE_HEADERS, Guest, Serve
from tests.plugins.conftest import PLUGINS
from tests.waiting import tasks

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
WHOLE = {"type": "http.response.body", "body": b"ok", "more_body": False}
CHUNKED = [(b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize("held", ["on_response_headers", "on_response_body"])
async def test_a_held_response_goes_out_before_the_apps_exception(serve_guests: Serve, held: str) -> None:
    resumer = Resumer()
    guest = Guest(**{held: pausing}, **resumer.callbacks)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(WHOLE)
        raise ValueError("a background task failed")

    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware)
        await settled()
        resumer.later(lambda api: (api.set_effective_context(guest.created[-1]), api.continue_stream(RESPONSE)))
        with pytest.raises(ValueError, match="background task"):
            await connection.over()
        assert (connection.response.status, connection.response.body) == (200, b"ok")


@pytest.mark.parametrize("held", ["on_response_headers", "on_response_body"])
async def test_pause_timeout_ends_the_pause_of_a_local_response(serve_guests: Serve, held: str) -> None:
    def denied(api: Hostcalls, context: int, count: int, end: int) -> int:
        api.send_local_response(403, b"denied")
        return PAUSE

    guest = Guest(on_request_headers=denied, **{held: pausing})

    async with serve_guests(answering(b"app"), guest, pause_timeout=0.05) as middleware:
        connection = Connection(middleware)
        connection.feed()
        await connection.over()
        assert connection.response.status == 504
        assert connection.response.complete


async def test_a_client_that_leaves_with_its_body_unread_ends_a_pause(serve_guests: Serve) -> None:
    guest = Guest(on_response_headers=pausing)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await send(WHOLE)

    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware, "POST", headers=CHUNKED)
        for piece in (b"a", b"b", b"c"):
            connection.feed(piece, more=True)
        connection.hang_up()
        await connection.over()
        assert connection.response.messages == []


@pytest.mark.parametrize("times", [1, 2])
async def test_nothing_is_sent_after_a_cancellation(serve_guests: Serve, times: int) -> None:
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing, **resumer.callbacks)

    async with serve_guests(answering(b"ok"), guest) as middleware:
        connection = Connection(middleware)
        connection.feed()
        await until(lambda: guest.created)
        await settled()
        before = tasks()
        connection.gate.clear()
        resumer.later(lambda api: (api.set_effective_context(guest.created[-1]), api.continue_stream(RESPONSE)))
        await resumer.done()
        for _ in range(times):
            connection.task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([connection.task])
        await settled()
        assert not {task for task in tasks() - before if not task.done()}
        connection.gate.set()
        await settled()
        assert connection.response.messages == []


async def test_an_app_that_asks_by_cancelled_reads_hears_that_its_client_has_gone(serve_guests: Serve) -> None:
    resumer = Resumer()
    guest = Guest(on_request_headers=pausing, **resumer.callbacks)
    told = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(200):
            # As Starlette's `is_disconnected`: cancelled at its first await.
            reading = receive()
            try:
                reading.send(None)  # type: ignore[attr-defined]
            except StopIteration as stop:
                if stop.value["type"] == "http.disconnect":
                    told.append(True)
                    return
            else:
                reading.close()  # type: ignore[attr-defined]
            await asyncio.sleep(0.002)

    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware)
        connection.feed()
        await until(lambda: guest.created)
        resumer.later(lambda api: (api.set_effective_context(guest.created[-1]), api.continue_stream(REQUEST)))
        await resumer.done()
        connection.hang_up()
        await connection.over()
        assert told


async def test_promised_trailers_that_do_not_come_leave_a_whole_response(serve_guests: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "trailers": True})
        await send(WHOLE)

    async with serve_guests(app, Guest(on_response_headers=passing)) as middleware:
        response = await request(middleware)
        assert response.complete
        assert response.body == b"ok"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b":path", b"/a\r\nx: 1"),
        (b":path", b"/a?b\r\nc"),
        (b":path", b"/a\x00b"),
        (b":method", b"GET\r\nx: y"),
        (b":method", b"\xff"),
        (b":method", b"G X"),
        (b":scheme", b"a\r\nb"),
    ],
)
@pytest.mark.parametrize("pauses", [False, True])
async def test_a_target_that_no_server_reads_reaches_no_app(
    serve_guests: Serve, name: bytes, value: bytes, pauses: bool
) -> None:
    def rewriting(api: Hostcalls, context: int, count: int, end: int) -> int:
        api.replace_header_map_value(REQUEST_HEADERS, name, value)
        if pauses:
            resumer.later(lambda api: (api.set_effective_context(context), api.continue_stream(REQUEST)))
        return PAUSE if pauses else CONTINUE

    called = []
    resumer = Resumer()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(scope)

    async with serve_guests(app, Guest(on_request_headers=rewriting, **resumer.callbacks)) as middleware:
        response = await request(middleware)
        assert (response.status, called) == (503, [])
        assert response.complete


@pytest.mark.parametrize("body_callback", [False, True])
async def test_what_the_app_adds_to_its_scope_can_be_read_outside(serve_guests: Serve, body_callback: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope.update(endpoint="home", state={"user": "ann"}, path="/changed")
        await send(START)
        await send(WHOLE)

    callbacks = {"on_response_body": passing} if body_callback else {"on_request_headers": passing}

    async with serve_guests(app, Guest(**callbacks)) as middleware:
        connection = Connection(middleware)
        await connection.over()
        assert (connection.scope["endpoint"], connection.scope["state"]) == ("home", {"user": "ann"})
        assert connection.scope["path"] == "/"


@pytest.mark.parametrize("said", [b"3", b"300"])
async def test_a_local_responses_length_is_true_whatever_a_plugin_says(serve_guests: Serve, said: bytes) -> None:
    def denied(api: Hostcalls, context: int, count: int, end: int) -> int:
        api.send_local_response(403, b"denied")
        return PAUSE

    def lying(api: Hostcalls, context: int, count: int, end: int) -> int:
        api.replace_header_map_value(RESPONSE_HEADERS, b"content-length", said)
        return CONTINUE

    async with serve_guests(answering(), Guest(on_request_headers=denied, on_response_headers=lying)) as middleware:
        response = await request(middleware)
        assert (response.status, response.body) == (403, b"denied")
        assert dict(response.headers)[b"content-length"] == b"6"


@pytest.mark.parametrize("piece", [b"x", b""], ids=["bytes", "empty pieces"])
async def test_a_client_that_drips_does_not_renew_a_pause_for_ever(piece: bytes) -> None:
    """Ten times `pause_timeout` in all, and empty pieces renew nothing."""
    plugin = {"name": "p", "file": PLUGINS / "probe" / "abi_0_2_1.wasm", "conf": "request_headers: return 1"}
    middleware = WasmMiddleware(answering(b"app"), settings={"plugins": [plugin], "pause_timeout": 0.05})
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": piece, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    async with middleware:
        headers = [(b"transfer-encoding", b"chunked")]
        await asyncio.wait_for(middleware(http_scope("POST", headers=headers), receive, send), 60)
    assert sent[0]["status"] == 504


async def test_an_app_that_raises_in_the_middle_of_a_held_response_raises_at_once(serve_guests: Serve) -> None:
    """The plugin waits for an end that will not come; the server is to cut the connection, as bare."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("in the middle")

    async with serve_guests(app, Guest(on_response_body=pausing)) as middleware:
        with pytest.raises(ValueError, match="in the middle"):
            await asyncio.wait_for(request(middleware), 60)
