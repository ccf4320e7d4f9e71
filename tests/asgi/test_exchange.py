"""One HTTP request between server, plugins and app: order, liveness, back-pressure, every way to end."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from asgi_wasm.engines.null import GuestTrap
from tests.asgi.acting import Resumer, passing, pausing
from tests.driving import Connection, answering, http_scope, request, run, settled, until
from tests.guests import (
    CONTINUE,
    PAUSE,
    REQUEST,
    REQUEST_BODY,
    REQUEST_HEADERS,
    RESPONSE,
    RESPONSE_BODY,
    RESPONSE_HEADERS,
    Api,
    Guest,
    Serve,
)

LENGTH = [(b"content-length", b"6")]
CHUNKED = [(b"transfer-encoding", b"chunked")]
START: Message = {"type": "http.response.start", "status": 200, "headers": []}


def body(data: bytes, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


# --- bodies pass as they come


def test_request_chunks_reach_the_app_one_by_one(serve_guests: Serve) -> None:
    seen: list[bytes] = []
    guest = Guest(on_request_body=lambda api, context, size, end: seen.append(api.body(REQUEST_BODY)))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        while True:
            message = await receive()
            await send(body(message["body"], message["more_body"]))
            if not message["more_body"]:
                return

    async def main() -> None:
        async with serve_guests(app, guest) as middleware:
            connection = Connection(middleware, "POST", headers=CHUNKED)
            for number, chunk in enumerate((b"a", b"b", b"c")):
                # The next chunk is made only when this one is back.
                connection.feed(chunk, more=chunk != b"c")
                messages = await connection.sent(number + 2)
                assert messages[-1]["body"] == chunk
            await connection.over()

    run(main)
    assert seen == [b"a", b"b", b"c"]


def test_response_chunks_reach_the_client_one_by_one(serve_guests: Serve) -> None:
    """Server-sent events: an event arrives before the next one is made, and the head before the first."""
    guest = Guest(
        on_response_headers=passing,
        on_response_body=lambda api, context, size, end: (
            api.set_body(RESPONSE_BODY, api.body(RESPONSE_BODY).upper()) and 0
        ),
    )
    events: list[asyncio.Event] = [asyncio.Event() for _ in range(3)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for number, event in enumerate(events):
            await event.wait()
            await send(body(b"event %d" % number, True))
        await send(body(b""))

    async def main() -> None:
        async with serve_guests(app, guest) as middleware:
            connection = Connection(middleware)
            assert (await connection.sent(1))[-1]["type"] == "http.response.start"
            for number, event in enumerate(events):
                event.set()
                assert (await connection.sent(number + 2))[number + 1] == body(b"EVENT %d" % number, True)
            await connection.over()

    run(main)


def test_plugin_without_body_callbacks_costs_the_body_nothing(serve_guests: Serve) -> None:
    """Nothing is read that the app does not ask for, and what it sends goes out as it is."""
    guest = Guest(on_request_headers=passing, on_response_headers=passing)
    data = b"the very same object"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(data))

    async def main() -> None:
        async with serve_guests(app, guest) as middleware:
            connection = Connection(middleware, "POST", headers=LENGTH)
            connection.feed(b"unread")
            response = await connection.over()
            assert connection.received == 0
            assert response.chunks[0] is data

    run(main)


# --- pausing


@pytest.mark.parametrize("with_body", [False, True])
def test_pause_in_request_headers(serve_guests: Serve, with_body: bool) -> None:
    resumer, seen = Resumer(), []
    guest = Guest(
        on_request_headers=pausing,
        on_request_body=lambda api, context, size, end: seen.append((size, end)),
        **resumer.callbacks,
    )

    async def main() -> None:
        async with serve_guests(answering(b"app"), guest) as middleware:
            connection = Connection(middleware, "POST" if with_body else "GET", headers=LENGTH if with_body else ())
            if with_body:
                connection.feed(b"abc", more=True)
            connection.feed(b"def" if with_body else b"")
            await settled()
            assert connection.response.messages == []
            resumer.later(lambda api: (api.act_for(guest.created[0]), api.resume(REQUEST)))
            assert (await connection.over()).body == b"app"

    run(main)
    assert seen == ([(6, 1)] if with_body else [])


def test_pause_in_response_while_the_app_streams(serve_guests: Serve) -> None:
    """The app goes on; all of it comes out after the resume, though the app is long over."""
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing, **resumer.callbacks)

    async def main() -> None:
        async with serve_guests(answering(b"a", b"b", b"c"), guest) as middleware:
            connection = Connection(middleware)
            connection.feed()
            await settled()
            assert connection.response.messages == []
            resumer.later(lambda api: (api.act_for(guest.created[0]), api.resume(RESPONSE)))
            assert (await connection.over()).body == b"abc"

    run(main)


def test_body_that_a_plugin_holds_until_it_is_whole(serve_guests: Serve) -> None:
    sizes: list[tuple[int, int]] = []

    def on_body(api: Api, context: int, size: int, end: int) -> int:
        sizes.append((size, end))
        return CONTINUE if end else PAUSE

    async def main() -> None:
        async with serve_guests(answering(b"ab", b"cd", b"ef"), Guest(on_response_body=on_body)) as middleware:
            response = await request(middleware)
            assert response.chunks == [b"abcdef"]

    run(main)
    assert sizes == [(2, 0), (4, 0), (6, 1)]


@pytest.mark.parametrize(("direction", "status"), [(REQUEST, 413), (RESPONSE, 500)])
def test_held_body_over_the_limit(serve_guests: Serve, direction: int, status: int) -> None:
    guest = Guest(**{f"on_{('request', 'response')[direction]}_body": pausing})
    limits = {"request_body": 5, "response_body": 5}

    async def main() -> None:
        app = answering(b"abc", b"def", headers=LENGTH)
        async with serve_guests(app, guest, limits=limits) as middleware:
            response = await request(middleware, "POST", body=[b"abc", b"def"] if direction == REQUEST else ())
            assert response.status == status

    run(main)


def test_watermark_stops_reading_the_client_and_the_app(serve_guests: Serve) -> None:
    """PAUSE on headers is back-pressure: no more than the limit, and a chunk, is read while it lasts."""
    resumer = Resumer()
    guest = Guest(on_request_headers=pausing, on_response_headers=pausing, **resumer.callbacks)
    produced = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal produced
        while (await receive())["more_body"]:
            pass
        await send(START)
        for _ in range(10):
            await send(body(b"xxx", True))
            produced += 1
        await send(body(b""))

    async def main() -> None:
        limits = {"request_body": 5, "response_body": 5}
        async with serve_guests(app, guest, limits=limits) as middleware:
            connection = Connection(middleware, "POST", headers=CHUNKED)
            for number in range(10):
                connection.feed(b"xxx", more=number < 9)
            await settled()
            assert connection.received == 2
            resumer.later(lambda api: (api.act_for(guest.created[0]), api.resume(REQUEST)))
            await until(lambda: produced > 0)
            await settled()
            assert produced == 1
            resumer.later(lambda api: (api.act_for(guest.created[0]), api.resume(RESPONSE)))
            assert (await connection.over()).body == b"xxx" * 10

    run(main)


def test_app_blocked_by_a_plugin_loses_no_request_body(serve_guests: Serve) -> None:
    """While `send` waits for the plugin, what the client sends is kept for the app, but not without bound."""
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing, **resumer.callbacks)
    got = b""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal got
        await send(START)
        await send(body(b"x" * 10, True))
        while True:
            message = await receive()
            got += message["body"]
            if not message["more_body"]:
                break
        await send(body(b"end"))

    async def main() -> None:
        async with serve_guests(app, guest, limits={"response_body": 5}) as middleware:
            connection = Connection(middleware, "POST", headers=CHUNKED)
            for number in range(10):
                connection.feed(b"%d" % number, more=number < 9)
            await settled()
            assert connection.received <= 2
            resumer.later(lambda api: (api.act_for(guest.created[0]), api.resume(RESPONSE)))
            assert (await connection.over()).body == b"x" * 10 + b"end"

    run(main)
    assert got == b"0123456789"


@pytest.mark.parametrize("plugin_reads", [False, True])
def test_app_that_receives_and_sends_in_two_tasks(serve_guests: Serve, plugin_reads: bool) -> None:
    """As Starlette listens for a disconnect while it streams: nothing is lost, nothing is received twice at once."""
    resumer = Resumer()
    callbacks: dict[str, Any] = {"on_request_body": passing} if plugin_reads else {}
    guest = Guest(on_response_headers=pausing, **callbacks, **resumer.callbacks)
    got: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def read() -> None:
            while True:
                message = await receive()
                got.append(message["body"])
                if not message["more_body"]:
                    return

        reading = asyncio.ensure_future(read())
        await settled()
        await send(START)
        await send(body(b"x" * 10, True))
        await reading
        await send(body(b"end"))

    async def main() -> None:
        async with serve_guests(app, guest, limits={"response_body": 5}) as middleware:
            connection = Connection(middleware, "POST", headers=CHUNKED)
            await settled()
            for number in range(5):
                connection.feed(b"%d" % number, more=number < 4)
                await settled()
            resumer.later(lambda api: (api.act_for(guest.created[0]), api.resume(RESPONSE)))
            assert (await connection.over()).body == b"x" * 10 + b"end"

    run(main)
    assert b"".join(got) == b"01234"


@pytest.mark.parametrize("direction", [REQUEST, RESPONSE])
def test_pause_that_nothing_ends_is_told_once(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture, direction: int
) -> None:
    guest = Guest(**{f"on_{('request', 'response')[direction]}_headers": pausing})

    async def main() -> None:
        async with serve_guests(answering(b"app"), guest, pause_timeout=0.05) as middleware:
            response = await request(middleware)
            assert (response.status, response.complete) == (504, True)

    run(main)
    assert caplog.text.count("paused a stream for 0.05 s") == 1


def test_pause_ends_though_the_app_neither_sends_nor_ends(serve_guests: Serve) -> None:
    """A server-sent stream that has nothing to say, behind a plugin that never lets its head go."""
    told = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        while (await receive())["type"] != "http.disconnect":
            pass
        told.set()

    async def main() -> None:
        async with serve_guests(app, Guest(on_response_headers=pausing), pause_timeout=0.05) as middleware:
            connection = Connection(middleware)
            assert (await connection.sent(2))[0]["status"] == 504
            # A server tells the app so once the response is complete.
            connection.hang_up()
            await connection.over()

    run(main)
    assert told.is_set()


def test_slow_plugin_that_is_heard_of_in_time_is_not_cut(serve_guests: Serve) -> None:
    resumer = Resumer()
    guest = Guest(on_request_headers=pausing, **resumer.callbacks)

    async def main() -> None:
        async with serve_guests(answering(b"app"), guest, pause_timeout=5) as middleware:
            connection = Connection(middleware)
            connection.feed()
            await settled()
            resumer.later(lambda api: (api.act_for(guest.created[0]), api.resume(REQUEST)))
            assert (await connection.over()).status == 200
            # Its timer is gone: nothing answers a second time.
            await settled()

    run(main)


# --- slow clients


def test_slow_client_loses_nothing_when_the_app_ends_first(serve_guests: Serve) -> None:
    """What a resume releases is being sent while the exchange ends: it is not cut off."""
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing, **resumer.callbacks)

    async def main() -> None:
        async with serve_guests(answering(b"a", b"b"), guest) as middleware:
            connection = Connection(middleware)
            connection.feed()
            await settled()
            connection.gate.clear()
            resumer.later(lambda api: (api.act_for(guest.created[0]), api.resume(RESPONSE)))
            await resumer.done()
            await asyncio.sleep(0.02)
            assert not connection.task.done()
            connection.gate.set()
            response = await connection.over()
            assert (response.body, response.complete) == (b"ab", True)

    run(main)


def test_last_message_that_is_being_sent_is_waited_for(serve_guests: Serve) -> None:
    """Nothing is left to be sent, and the last piece is not through yet: the exchange does not end under it."""
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing, **resumer.callbacks)
    sent: list[Message] = []

    async def main() -> None:
        under_way, gate = asyncio.Event(), asyncio.Event()

        async def send(message: Message) -> None:
            if not message.get("more_body", True):
                under_way.set()
                await gate.wait()
            sent.append(message)

        async def receive() -> Message:
            if asked:
                await asyncio.Event().wait()
            asked.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}

        asked: list[bool] = []
        async with serve_guests(answering(b"a"), guest) as middleware:
            call = asyncio.ensure_future(middleware(http_scope(), receive, send))
            await settled()
            resumer.later(lambda api: (api.act_for(guest.created[0]), api.resume(RESPONSE)))
            await asyncio.wait_for(under_way.wait(), 5)
            await settled()
            assert not call.done()
            gate.set()
            await asyncio.wait_for(call, 5)

    run(main)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


def test_slow_client_slows_the_app(serve_guests: Serve) -> None:
    produced = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal produced
        await send(START)
        for _ in range(5):
            await send(body(b"x", True))
            produced += 1
        await send(body(b""))

    async def main() -> None:
        async with serve_guests(app, Guest(on_response_body=passing)) as middleware:
            connection = Connection(middleware)
            await connection.sent(2)
            connection.gate.clear()
            await settled()
            before = produced
            await asyncio.sleep(0.02)
            assert produced - before <= 1
            connection.gate.set()
            assert (await connection.over()).body == b"xxxxx"

    run(main)


# --- plugins that answer


@pytest.mark.parametrize("phase", ["request_headers", "request_body", "response_headers", "response_body"])
def test_local_response_from_each_phase(serve_guests: Serve, phase: str) -> None:
    def on_phase(api: Api, context: int, *_: int) -> int:
        if context not in replied:
            replied.append(context)
            api.reply(403, b"no", [(b"x-why", b"because")])
            return PAUSE
        return CONTINUE

    replied: list[int] = []

    async def main() -> None:
        guest = Guest(**{f"on_{phase}": on_phase})
        # With a content-length the head is still here when the body is looked at.
        app = answering(b"app", headers=[(b"content-length", b"3")])
        async with serve_guests(app, guest) as middleware:
            response = await request(middleware, "POST", body=[b"abc"])
            assert (response.status, response.body, response.complete) == (403, b"no", True)
            assert response.header(b"x-why") == b"because"

    run(main)


def test_local_response_after_the_response_has_started(serve_guests: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def on_body(api: Api, context: int, size: int, end: int) -> int:
        if end:
            api.reply(403, b"no")
        return CONTINUE

    async def main() -> None:
        async with serve_guests(answering(b"a", b"b"), Guest(on_response_body=on_body)) as middleware:
            response = await request(middleware)
            assert (response.status, response.body, response.complete) == (200, b"a", False)

    run(main)
    assert "a response was cut off: a local response came after the response had started" in caplog.text


@pytest.mark.parametrize("started", [False, True])
def test_plugin_that_closes_the_stream(serve_guests: Serve, caplog: pytest.LogCaptureFixture, started: bool) -> None:
    phase = "on_response_body" if started else "on_request_headers"
    guest = Guest(**{phase: lambda api, context, *_: api.close(REQUEST)})

    async def main() -> None:
        async with serve_guests(answering(b"a", b"b"), guest) as middleware:
            response = await request(middleware)
            assert not response.complete
            assert bool(response.messages) == started

    run(main)
    assert "plugin 'g0' closed the stream" in caplog.text


@pytest.mark.parametrize("more", [False, True])
def test_app_that_goes_on_after_a_plugin_answered(serve_guests: Serve, more: bool) -> None:
    """It ignores the disconnect. An endless one is ended by an OSError; a last message is dropped in silence."""
    resumer = Resumer()
    guest = Guest(on_request_headers=passing, **resumer.callbacks)
    raised: list[type] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        resumer.later(lambda api: (api.act_for(guest.created[0]), api.reply(403, b"no")))
        await resumer.done()
        await send(START)
        try:
            for _ in range(1000):
                await send(body(b"x", more))
                if not more:
                    return
        except OSError as error:
            raised.append(type(error))
            raise

    async def main() -> None:
        async with serve_guests(app, guest) as middleware:
            response = await request(middleware)
            assert (response.status, response.body) == (403, b"no")

    run(main)
    assert raised == ([OSError] if more else [])


def test_app_waiting_for_the_client_is_told_that_a_plugin_answered(serve_guests: Serve) -> None:
    """Its `receive` was under way when the plugin answered, and the server has nothing to say."""
    resumer = Resumer()
    guest = Guest(on_request_body=passing, **resumer.callbacks)
    told: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        resumer.later(lambda api: (api.act_for(guest.created[0]), api.reply(403, b"no")))
        told.append((await receive())["type"])

    async def main() -> None:
        async with serve_guests(app, guest) as middleware:
            connection = Connection(middleware, "POST", headers=CHUNKED)
            connection.feed(b"a", more=True)
            await connection.sent(2)
            # uvicorn gives a disconnect once the response is complete.
            connection.hang_up()
            assert (await connection.over()).status == 403

    run(main)
    assert told == ["http.disconnect"]


# --- traps


@pytest.mark.parametrize("phase", ["request_headers", "request_body", "response_headers", "response_body", "log"])
@pytest.mark.parametrize("policy", ["fail_closed", "fail_open"])
def test_trap_in_each_phase(serve_guests: Serve, phase: str, policy: str) -> None:
    def trap(api: Api, *_: int) -> int:
        if armed:
            armed.pop()
            raise GuestTrap("on purpose")
        return CONTINUE

    armed = [True]

    async def main() -> None:
        app = answering(b"app", headers=[(b"content-length", b"3")])
        guest = Guest(**{f"on_{phase}": trap})
        async with serve_guests(app, guest, traps=True, entries=[{"failure_policy": policy}]) as middleware:
            response = await request(middleware, "POST", body=[b"abc"])
            served = policy == "fail_open" or phase == "log"
            assert (response.status, response.body) == ((200, b"app") if served else (503, b""))
            # The next request gets a fresh VM.
            assert (await request(middleware, "POST", body=[b"abc"])).body == b"app"

    run(main)


# --- clients that go


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_client_gone_while_paused(serve_guests: Serve, method: str) -> None:
    called: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(scope)

    async def main() -> None:
        guest = Guest(on_request_headers=pausing)
        async with serve_guests(app, guest) as middleware:
            connection = Connection(middleware, method, headers=LENGTH if method == "POST" else ())
            connection.feed(b"abc" if method == "POST" else b"", more=method == "POST")
            await settled()
            connection.hang_up()
            assert (await connection.over()).messages == []
            assert len(guest.deleted) == 1

    run(main)
    assert called == []


def test_client_gone_while_the_response_is_paused(serve_guests: Serve) -> None:
    async def main() -> None:
        guest = Guest(on_response_headers=pausing)
        async with serve_guests(answering(b"app"), guest) as middleware:
            connection = Connection(middleware)
            connection.feed()
            await settled()
            assert not connection.task.done()
            connection.hang_up()
            assert (await connection.over()).messages == []

    run(main)


def test_client_gone_before_the_end_of_its_body(serve_guests: Serve) -> None:
    got: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(await receive())
        got.append(await receive())
        # Every further one says so too.
        got.append(await receive())

    async def main() -> None:
        async with serve_guests(app, Guest(on_request_body=passing)) as middleware:
            connection = Connection(middleware, "POST", headers=LENGTH)
            connection.feed(b"abc", more=True)
            await settled()
            connection.hang_up()
            await connection.over()

    run(main)
    assert [message["type"] for message in got] == ["http.request", "http.disconnect", "http.disconnect"]


@pytest.mark.parametrize("callbacks", [{}, {"on_response_body": passing}], ids=["headers", "body"])
def test_client_gone_before_the_end_of_the_response(serve_guests: Serve, callbacks: dict[str, Any]) -> None:
    """ASGI 2.4: `send` raises OSError, which the app sees, as without plugins."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        while True:
            await send(body(b"x", True))
            await asyncio.sleep(0)

    async def main() -> None:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            if len(sent) == 3:
                raise OSError("the client has gone")
            sent.append(message)

        async def receive() -> Message:
            raise AssertionError("nobody asked")

        guest = Guest(on_response_headers=passing, **callbacks)
        async with serve_guests(app, guest) as middleware:
            with pytest.raises(OSError, match="the client has gone"):
                await middleware(http_scope(), receive, send)

    run(main)


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("too much data")])
def test_server_that_refuses_what_a_resume_released(serve_guests: Serve, error: Exception) -> None:
    """Nobody's `send` is there to raise it: a client that went is no error, anything else ends the exchange."""
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing, **resumer.callbacks)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        resumer.later(lambda api: (api.act_for(guest.created[0]), api.resume(RESPONSE)))
        await resumer.done()

    async def main() -> None:
        async def send(message: Message) -> None:
            raise error

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async with serve_guests(app, guest) as middleware:
            call = asyncio.wait_for(middleware(http_scope(), receive, send), 5)
            if isinstance(error, OSError):
                await call
            else:
                with pytest.raises(RuntimeError, match="too much data"):
                    await call

    run(main)


# --- apps that go wrong


def test_app_that_raises_before_the_response(serve_guests: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("the app's own")

    async def main() -> None:
        async with serve_guests(app, Guest(on_request_headers=passing)) as middleware:
            connection = Connection(middleware)
            with pytest.raises(ValueError, match="the app's own"):
                await connection.over()
            assert connection.response.messages == []

    run(main)


@pytest.mark.parametrize("held", [False, True])
def test_app_that_raises_after_the_response_started(serve_guests: Serve, held: bool) -> None:
    """A head that is still held never goes out: the server can make a 500 of it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-length", b"3")] if held else []})
        raise ValueError("the app's own")

    async def main() -> None:
        async with serve_guests(app, Guest(on_response_body=passing)) as middleware:
            connection = Connection(middleware)
            with pytest.raises(ValueError, match="the app's own"):
                await connection.over()
            assert len(connection.response.messages) == (0 if held else 1)

    run(main)


def test_app_that_raises_after_a_plugin_answered(serve_guests: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise ValueError("the app's own")

    def on_body(api: Api, *_: int) -> int:
        api.reply(403)
        return PAUSE

    async def main() -> None:
        async with serve_guests(app, Guest(on_request_body=on_body)) as middleware:
            connection = Connection(middleware, "POST", headers=LENGTH)
            await settled()
            # The app runs before the body is here.
            connection.feed(b"abcdef")
            assert (await connection.over()).status == 403

    with caplog.at_level(logging.INFO, logger="asgi_wasm.host"):
        run(main)
    assert "the app raised ValueError after a plugin had answered" in caplog.text


def test_app_that_returns_without_a_response(serve_guests: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    async def main() -> None:
        async with serve_guests(app, Guest(on_response_headers=passing)) as middleware:
            assert (await request(middleware)).messages == []

    run(main)


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
def test_app_that_sends_wrong_messages(
    serve_guests: Serve, messages: list[Message], complaint: str | None, held: bool
) -> None:
    """The server's own complaint, or one like it, reaches the app; what nobody knows passes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            if held and message["type"] == "http.response.start":
                message = {**message, "headers": [(b"content-length", b"1")]}
            await send(message)

    async def main() -> None:
        async with serve_guests(app, Guest(on_response_body=passing)) as middleware:
            connection = Connection(middleware)
            if complaint is None:
                assert (await connection.over()).messages == messages
            else:
                with pytest.raises(RuntimeError, match=complaint):
                    await connection.over()

    run(main)


# --- responses without a body


@pytest.mark.parametrize(
    ("method", "status", "headers"),
    [
        ("HEAD", 200, [(b"content-length", b"3")]),
        ("GET", 204, []),
        ("GET", 304, []),
        ("GET", 200, [(b"content-length", b"0")]),
    ],
)
def test_response_without_body(
    serve_guests: Serve, method: str, status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    """The headers are the end of the stream, no body callback comes, and content-length stays."""
    seen: list[str] = []
    guest = Guest(
        on_response_headers=lambda api, context, count, end: seen.append(f"headers {end}"),
        on_response_body=lambda api, context, size, end: seen.append("body"),
    )
    content = b"app" if method == "HEAD" else b""

    async def main() -> None:
        async with serve_guests(answering(content, headers=headers, status=status), guest) as middleware:
            response = await request(middleware, method)
            assert (response.status, response.body, response.headers) == (status, b"", headers)
            assert response.complete

    run(main)
    assert seen == ["headers 1"]


# --- content-length


@pytest.mark.parametrize(
    ("chunks", "change", "length", "out"),
    [
        ([b"abc"], lambda data: data + b"!", b"4", b"abc!"),
        ([b"abc"], lambda data: b"", b"0", b""),
        ([b"abc"], lambda data: data, b"3", b"abc"),
        ([b"ab", b"c"], lambda data: data + b"!", None, b"ab!c!"),
        ([b"ab", b"c"], lambda data: data.upper(), b"3", b"ABC"),
    ],
    ids=["longer", "emptied", "untouched", "longer-in-chunks", "same-length-in-chunks"],
)
def test_content_length_is_made_true_or_dropped(
    serve_guests: Serve, chunks: list[bytes], change: Any, length: bytes | None, out: bytes
) -> None:
    guest = Guest(
        on_response_body=lambda api, context, *_: api.set_body(RESPONSE_BODY, change(api.body(RESPONSE_BODY)))
    )

    async def main() -> None:
        app = answering(*chunks, headers=[(b"content-length", b"3"), (b"x-other", b"1")])
        async with serve_guests(app, guest) as middleware:
            response = await request(middleware)
            assert response.body == out
            assert response.header(b"content-length") == length
            assert response.header(b"x-other") == b"1"

    run(main)


# --- trailers


@pytest.mark.parametrize("offered", [True, False])
def test_response_trailers(serve_guests: Serve, offered: bool) -> None:
    """They pass the plugins; a server that does not take them is not told of any."""
    seen: list[tuple[int, int]] = []
    guest = Guest(
        on_response_body=lambda api, context, size, end: seen.append((size, end)),
        on_response_trailers=lambda api, context, count: api.add(3, b"x-plugin", b"1"),
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "trailers": True})
        await send(body(b"app"))
        await send({"type": "http.response.trailers", "headers": [(b"X-App", b"1")], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": [(b"x-app", b"2")], "more_trailers": False})

    async def main() -> None:
        extensions: dict[str, Any] = {"http.response.trailers": {}} if offered else {}
        async with serve_guests(app, guest) as middleware:
            response = await request(middleware, extensions=extensions)
            kinds = [message["type"].rpartition(".")[2] for message in response.messages]
            assert response.body == b"app"
            if offered:
                assert kinds == ["start", "body", "body", "trailers"]
                assert response.messages[0]["trailers"] is True
                assert response.messages[-1]["headers"] == [(b"x-app", b"1"), (b"x-app", b"2"), (b"x-plugin", b"1")]
            else:
                assert kinds == ["start", "body", "body"]
                assert "trailers" not in response.messages[0]

    run(main)
    assert seen == [(3, 0)]


@pytest.mark.parametrize("phase", ["response_headers", "response_body"])
def test_local_response_in_place_of_one_with_trailers(serve_guests: Serve, phase: str) -> None:
    """What the app announced was about its own response: a server would wait for trailers that never come."""

    def on_phase(api: Api, *_: int) -> int:
        api.reply(403, b"no")
        return CONTINUE

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-length", b"3")], "trailers": True})
        await send(body(b"app"))
        await send({"type": "http.response.trailers", "headers": [], "more_trailers": False})

    async def main() -> None:
        extensions: dict[str, Any] = {"http.response.trailers": {}}
        async with serve_guests(app, Guest(**{f"on_{phase}": on_phase})) as middleware:
            response = await request(middleware, extensions=extensions)
            assert (response.status, response.body, response.complete) == (403, b"no", True)
            assert "trailers" not in response.messages[0]

    run(main)


def test_trailers_behind_a_body_that_is_held(serve_guests: Serve) -> None:
    """Nothing was sent yet when they come: head, body and trailers leave in their order."""
    guest = Guest(
        on_response_body=pausing,
        on_response_trailers=lambda api, *_: api.add(3, b"x-bad", b"1\r\n") or api.add(3, b"x-good", b"1"),
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-length", b"0003")], "trailers": True})
        await send(body(b"app"))
        await send({"type": "http.response.trailers", "headers": [], "more_trailers": False})

    async def main() -> None:
        extensions: dict[str, Any] = {"http.response.trailers": {}}
        async with serve_guests(app, guest) as middleware:
            start, piece, end, trailers = (await request(middleware, extensions=extensions)).messages
            assert start["trailers"] is True
            assert (piece["body"], piece["more_body"], end["body"], end["more_body"]) == (b"app", True, b"", False)
            assert trailers["headers"] == [(b"x-good", b"1")]

    run(main)


def test_trailers_without_any_body(serve_guests: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-length", b"00")], "trailers": True})
        await send(body(b""))
        await send({"type": "http.response.trailers", "headers": [(b"x-t", b"1")], "more_trailers": False})

    async def main() -> None:
        extensions: dict[str, Any] = {"http.response.trailers": {}}
        async with serve_guests(app, Guest(on_response_body=passing)) as middleware:
            response = await request(middleware, extensions=extensions)
            kinds = [message["type"].rpartition(".")[2] for message in response.messages]
            assert kinds == ["start", "body", "trailers"]

    run(main)


# --- extensions


EXTENSIONS: dict[str, Any] = {
    "http.response.pathsend": {},
    "http.response.zerocopysend": {},
    "http.response.early_hint": {},
    "http.response.push": {},
    "http.response.debug": {},
    "tls": {"server_name": "example.test"},
}


@pytest.mark.parametrize("reads_body", [True, False])
def test_extensions_that_bypass_plugins_are_hidden_only_from_body_plugins(
    serve_guests: Serve, reads_body: bool
) -> None:
    offered: list[set[str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        offered.append(set(scope["extensions"]))
        await answering(b"")(scope, receive, send)

    async def main() -> None:
        guest = Guest(**{"on_response_body" if reads_body else "on_response_headers": passing})
        async with serve_guests(app, guest) as middleware:
            extensions = dict(EXTENSIONS)
            await request(middleware, extensions=extensions)
            assert extensions == EXTENSIONS

    run(main)
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
def test_messages_of_extensions_pass_in_order(serve_guests: Serve, messages: list[Message], pauses: bool) -> None:
    """Also when a plugin holds the head: nothing of the body comes before it."""
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing if pauses else passing, **resumer.callbacks)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    async def main() -> None:
        async with serve_guests(app, guest) as middleware:
            connection = Connection(middleware, extensions=EXTENSIONS)
            await settled()
            if pauses:
                resumer.later(lambda api: (api.act_for(guest.created[0]), api.resume(RESPONSE)))
            response = await connection.over()
            assert [message["type"] for message in response.messages] == [message["type"] for message in messages]

    run(main)


def test_file_that_was_sent_is_a_whole_response(serve_guests: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A plugin that answers later is too late, since the stream is over, and nothing is cut."""
    resumer = Resumer()
    guest = Guest(on_response_headers=passing, **resumer.callbacks)
    acted: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.pathsend", "path": "/a"})
        resumer.later(lambda api: acted.append(api.call("set_effective_context", guest.created[0])))
        await resumer.done()
        # BAD_ARGUMENT: there is no such context any more.
        assert acted == [2]

    async def main() -> None:
        async with serve_guests(app, guest) as middleware:
            connection = Connection(middleware)
            assert len((await connection.over()).messages) == 2

    run(main)
    assert "cut off" not in caplog.text


def test_unknown_messages_of_the_server_reach_the_app(serve_guests: Serve) -> None:
    got: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append((await receive())["type"])
        got.append((await receive())["type"])
        await answering(b"")(scope, receive, send)

    async def main() -> None:
        async with serve_guests(app, Guest(on_request_body=passing)) as middleware:
            connection = Connection(middleware, "POST", headers=LENGTH)
            connection.incoming.put_nowait({"type": "http.novelty"})
            connection.feed(b"abc", more=True)
            connection.feed(b"def")
            await connection.over()

    run(main)
    assert got == ["http.novelty", "http.request"]


# --- bodies that nobody announced


def test_unannounced_body_while_paused_is_collected_to_the_limit_only(serve_guests: Serve) -> None:
    resumer, got = Resumer(), []
    guest = Guest(on_request_headers=pausing, on_request_body=passing, **resumer.callbacks)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(await receive())
        await send(START)
        await send(body(b""))

    async def main() -> None:
        async with serve_guests(app, guest, limits={"request_body": 10}) as middleware:
            connection = Connection(middleware, http_version="2")
            for _ in range(10):
                connection.feed(b"some", more=True)
            await settled()
            assert connection.received == 3
            resumer.later(lambda api: (api.act_for(guest.created[0]), api.resume(REQUEST)))
            await resumer.done()
            connection.hang_up()
            await connection.over()

    run(main)
    assert got == [{"type": "http.request", "body": b"some" * 3, "more_body": True}]


@pytest.mark.parametrize("reads_body", [True, False])
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_body_that_no_header_announces(serve_guests: Serve, reads_body: bool, version: str) -> None:
    """A body ends by `more_body` alone: plugins that look at bodies see it, and so does the app."""
    got: list[Message] = []
    seen: list[tuple[int, ...]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.extend([await receive(), await receive()])
        await send(START)
        await send(body(b""))

    async def main() -> None:
        callbacks: dict[str, Any] = {"on_request_headers": lambda api, context, count, end: seen.append((end,))}
        if reads_body:
            callbacks["on_request_body"] = lambda api, context, size, end: seen.append((size, end))
        async with serve_guests(app, Guest(**callbacks)) as middleware:
            connection = Connection(middleware, http_version=version)
            connection.feed(b"some", more=True)
            connection.feed(b"more!")
            await connection.over()

    run(main)
    assert [(message["body"], message["more_body"]) for message in got] == [(b"some", True), (b"more!", False)]
    assert seen == ([(0,), (4, 0), (5, 1)] if reads_body else [(1,)])


@pytest.mark.parametrize("resumes", [True, False])
def test_body_of_a_bodiless_method_over_http2_while_a_plugin_waits(serve_guests: Serve, resumes: bool) -> None:
    """No plugin looks at bodies, so the app gets what it gets without any, whether the body came early or late."""
    resumer, got = Resumer(), []
    guest = Guest(on_request_headers=pausing if resumes else passing, **resumer.callbacks)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.extend([await receive(), await receive()])
        await send(START)
        await send(body(b""))

    async def main() -> None:
        async with serve_guests(app, guest) as middleware:
            connection = Connection(middleware, http_version="2")
            connection.feed(b"one", more=True)
            await settled()
            if resumes:
                resumer.later(lambda api: (api.act_for(guest.created[0]), api.resume(REQUEST)))
                await resumer.done()
            connection.feed(b"two")
            await connection.over()

    run(main)
    assert [(message["body"], message["more_body"]) for message in got] == [(b"one", True), (b"two", False)]


def test_unannounced_body_does_not_pass_a_plugin_behind_the_one_that_waits(serve_guests: Serve) -> None:
    """The second has no context yet, and looks at bodies."""
    resumer, got = Resumer(), []
    seen: list[bytes] = []
    first = Guest(on_request_headers=pausing, **resumer.callbacks)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(await receive())
        await send(START)
        await send(body(b""))

    async def main() -> None:
        guest = Guest(on_request_body=lambda api, *_: seen.append(api.body(REQUEST_BODY)))
        async with serve_guests(app, first, guest) as middleware:
            connection = Connection(middleware, http_version="2")
            connection.feed(b"seen")
            await settled()
            resumer.later(lambda api: (api.act_for(first.created[0]), api.resume(REQUEST)))
            await connection.over()

    run(main)
    assert got == [{"type": "http.request", "body": b"seen", "more_body": False}]
    assert seen == [b"seen"]


def test_empty_piece_before_the_end_of_no_body(serve_guests: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """It is no body; the app hears of the end once."""
    got: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(await receive())
        await send(START)
        await send(body(b""))
        got.append(await receive())

    async def main() -> None:
        async with serve_guests(app, Guest(on_request_body=passing)) as middleware:
            connection = Connection(middleware)
            connection.feed(b"", more=True)
            connection.feed(b"")
            connection.hang_up()
            await connection.over()

    run(main)
    assert got == [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]
    assert "not announced" not in caplog.text


# --- cancellation


STATES = ["request-paused", "app-runs", "app-receives", "app-sends", "send-waits-for-plugin", "response-paused"]


@pytest.mark.parametrize("state", STATES)
def test_cancelled_in_every_state(serve_guests: Serve, state: str) -> None:
    """The fixture sees to it that every context is deleted once and no task is left over."""
    callbacks: dict[str, Any] = {"on_request_body": passing}
    if state == "request-paused":
        callbacks["on_request_headers"] = pausing
    elif state in ("response-paused", "send-waits-for-plugin"):
        callbacks["on_response_headers"] = pausing

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if state == "app-runs":
            await asyncio.sleep(100)
        if state == "app-receives":
            await receive()
        await send(START)
        await send(body(b"xxxxxxxxx", state == "send-waits-for-plugin"))

    async def main() -> None:
        guest = Guest(**callbacks)
        async with serve_guests(app, guest, limits={"response_body": 20 if state == "response-paused" else 5}) as it:
            connection = Connection(it, "POST", headers=LENGTH)
            if state == "app-sends":
                connection.gate.clear()
            await settled()
            assert not connection.task.done()
            await connection.cancel()
            assert len(guest.deleted) == 1

    run(main)


def test_cancelled_while_a_flush_is_under_way(serve_guests: Serve) -> None:
    resumer = Resumer()
    guest = Guest(on_response_headers=pausing, **resumer.callbacks)

    async def main() -> None:
        async with serve_guests(answering(b"a", b"b"), guest) as middleware:
            connection = Connection(middleware)
            connection.feed()
            await settled()
            connection.gate.clear()
            resumer.later(lambda api: (api.act_for(guest.created[0]), api.resume(RESPONSE)))
            await resumer.done()
            await connection.cancel()

    run(main)


# --- many at once


def test_many_requests_over_one_vm_with_pauses(serve_guests: Serve) -> None:
    """Each is paused both ways and resumed in an order of its own; none gets another's words."""
    resumer = Resumer()
    waiting: list[tuple[int, int]] = []

    def on_request_headers(api: Api, context: int, count: int, end: int) -> int:
        api.add(REQUEST_HEADERS, b"x-context", b"%d" % context)
        waiting.append((context, REQUEST))
        return PAUSE

    def on_response_headers(api: Api, context: int, count: int, end: int) -> int:
        api.add(RESPONSE_HEADERS, b"x-context", b"%d" % context)
        waiting.append((context, RESPONSE))
        return PAUSE

    def on_tick(api: Api, root: int) -> None:
        # The newest first.
        while waiting:
            context, direction = waiting.pop()
            api.act_for(context)
            api.resume(direction)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        context = dict(scope["headers"])[b"x-context"]
        await answering(scope["path"].encode() + b" " + context)(scope, receive, send)

    async def main() -> None:
        guest = Guest(
            on_configure=resumer.on_configure,
            on_tick=on_tick,
            on_request_headers=on_request_headers,
            on_response_headers=on_response_headers,
        )
        async with serve_guests(app, guest) as middleware:
            responses = await asyncio.gather(*(request(middleware, path=f"/{number}") for number in range(200)))
            for number, response in enumerate(responses):
                path, context = response.body.split()
                assert path == b"/%d" % number
                assert response.header(b"x-context") == context
            assert len(set(guest.created)) == 200

    run(main)
