"""What the app is told of a request's body: its end, once, and a length that is true."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import passing
from tests.driving import Connection, Response, http_scope, request, settled
from tests.guests import PAUSE, REQUEST_BODY, REQUEST_HEADERS, Guest, Serve
from tests.waiting import tasks

LENGTH = b"content-length"
START: Message = {"type": "http.response.start", "status": 200, "headers": []}


class App:
    """Reads the body, and remembers what it was told."""

    def __init__(self) -> None:
        self.lengths: list[bytes] = []
        self.codings: list[bytes] = []
        self.body = b""
        self.ends = 0
        self.gone = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.lengths = [value for name, value in scope["headers"] if name == LENGTH]
        self.codings = [value for name, value in scope["headers"] if name == b"transfer-encoding"]
        while not (self.ends or self.gone):
            message = await receive()
            self.gone = message["type"] == "http.disconnect"
            self.body += message.get("body", b"")
            self.ends += message["type"] == "http.request" and not message.get("more_body", False)
        await send(START)
        await send({"type": "http.response.body", "body": b""})

    @property
    def is_true(self) -> bool:
        return not self.gone and self.lengths in ([], [b"%d" % len(self.body)])


def says(value: bytes | None) -> Any:
    def callback(api: Hostcalls, *_: int) -> int:
        if value is None:
            api.remove_header_map_value(REQUEST_HEADERS, LENGTH)
        else:
            api.replace_header_map_value(REQUEST_HEADERS, LENGTH, value)
        return 0

    return callback


def on_body(*changes: bytes | None) -> Any:
    left = list(changes)

    def callback(api: Hostcalls, context: int, size: int, end: int) -> int:
        change = left.pop(0) if left else None
        if change is not None:
            api.set_buffer_bytes(REQUEST_BODY, change)
        return 0

    return callback


def holding(callback: Any) -> Any:
    """Pauses until the end is there, then changes the whole."""

    def held(api: Hostcalls, context: int, size: int, end: int) -> int:
        return int(callback(api, context, size, end)) if end else PAUSE

    return held


BODIES: dict[str, dict[str, Any]] = {
    "no callback": {},
    "passes": {"on_request_body": passing},
    "grows": {"on_request_body": on_body(b"longer than it was")},
    "shrinks": {"on_request_body": on_body(b"")},
}
WRITTEN: dict[str, Any] = {
    "left": passing,
    "taken": says(None),
    "3": says(b"3"),
    "300": says(b"300"),
    "+6": says(b"+6"),
}


async def ask(serve_guests: Serve, app: ASGIApp, *guests: Guest, method: str = "POST", **more: Any) -> Response:
    async with serve_guests(app, *guests) as middleware:
        return await request(middleware, method, **more)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("pieces", [(b"abcdef",), (b"abcdef", b"")], ids=["one", "and an end"])
async def test_a_body_that_is_there(serve_guests: Serve, body: str, written: str, pieces: tuple[bytes, ...]) -> None:
    """Also where the server tells the end by an empty piece."""
    app = App()
    await ask(serve_guests, app, Guest(on_request_headers=WRITTEN[written], **BODIES[body]), body=pieces)
    assert app.is_true and app.lengths, (app.lengths, app.body)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("written", WRITTEN)
async def test_a_chunked_body(serve_guests: Serve, body: str, written: str) -> None:
    app = App()
    guest = Guest(on_request_headers=WRITTEN[written], **BODIES[body])

    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware, "POST", headers=[(b"transfer-encoding", b"chunked")])
        connection.feed(b"abc", more=True)
        connection.feed(b"def")
        await connection.over()
    assert app.is_true and bool(app.lengths) != bool(app.codings)


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_no_body(serve_guests: Serve, written: str, method: str) -> None:
    for callbacks in BODIES.values():
        app = App()
        await ask(serve_guests, app, Guest(on_request_headers=WRITTEN[written], **callbacks), method=method)
        assert app.is_true and app.body == b""


@pytest.mark.parametrize("change", [None, b"", b"longer than it was"])
@pytest.mark.parametrize("written", ["left", "taken", "3"])
async def test_a_body_that_is_held_until_its_end(serve_guests: Serve, change: bytes | None, written: str) -> None:
    """Multipart readers need a length: where the whole body is known it is said, also where a plugin took it away."""

    def stops(api: Hostcalls, *arguments: int) -> int:
        WRITTEN[written](api, *arguments)
        return PAUSE

    app = App()
    guest = Guest(on_request_headers=stops, on_request_body=holding(on_body(change)))

    entries = [{"allow_on_headers_stop_iteration": True}]
    async with serve_guests(app, guest, entries=entries) as middleware:
        await request(middleware, "POST", body=[b"ab", b"cd", b"ef"])
    assert app.is_true and app.lengths and app.body == (b"abcdef" if change is None else change)


@pytest.mark.parametrize("changes", [(None, b"cdef"), (None, None, b"efgh")])
async def test_the_app_gets_no_more_than_it_was_told(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture, changes: tuple[bytes | None, ...]
) -> None:
    app = App()
    await ask(serve_guests, app, Guest(on_request_body=on_body(*changes)), body=[b"ab", b"cd", b"ef"])
    assert app.is_true and app.lengths == [b"6"]
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(told) == 1 and "'g0'" in told[0], told


async def test_a_request_that_becomes_too_short_is_broken_off(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    app = App()
    response = await ask(serve_guests, app, Guest(on_request_body=on_body(None, b"")), body=[b"ab", b"cd", b"ef"])
    assert app.gone and response.status == 500
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(told) == 1 and "'g0'" in told[0], told


# --- what the app waits for


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize("headers", [[], [(b"transfer-encoding", b"chunked")], [(LENGTH, b"6")]])
async def test_an_app_that_streams_is_not_delayed(
    serve_guests: Serve, version: str, headers: list[tuple[bytes, bytes]]
) -> None:
    """It answers before the client sends a byte; the plugin is told that more comes."""
    ends: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": (await receive())["body"]})

    async def main() -> Response:
        guest = Guest(on_request_headers=lambda api, context, count, end: ends.append(end), on_request_body=passing)
        async with serve_guests(app, guest) as middleware:
            connection = Connection(middleware, "POST", headers=headers, http_version=version)
            await connection.sent(1)
            connection.feed(b"abcdef")
            return await connection.over()

    assert (await main()).body == b"abcdef" and ends == [0]


async def test_a_client_that_waits_for_100_is_asked_by_the_app_alone(serve_guests: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "status": 417})
        await send({"type": "http.response.body", "body": b""})

    async def main() -> int:
        async with serve_guests(app, Guest(on_request_body=passing)) as middleware:
            headers = [(LENGTH, b"6"), (b"expect", b"100-continue")]
            connection = Connection(middleware, "POST", headers=headers)
            connection.feed(b"abcdef")
            await connection.over()
            return connection.received

    assert await main() == 0


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_the_end_is_known_before_plugins_are_called(serve_guests: Serve, method: str, version: str) -> None:
    """As Envoy knows END_STREAM; the app reads the message that told it."""
    calls: list[Any] = []
    app = App()

    guest = Guest(
        on_request_headers=lambda api, context, count, end: calls.append(end),
        on_request_body=lambda *_: calls.append("body"),
    )
    async with serve_guests(app, guest) as middleware:
        await request(middleware, method, http_version=version)
    assert calls == [1] and app.ends == 1


async def test_a_body_behind_a_length_of_zero_does_not_vanish(serve_guests: Serve) -> None:
    app, seen = App(), []

    def sees(api: Hostcalls, context: int, size: int, end: int) -> int:
        seen.append(api.get_buffer_bytes(REQUEST_BODY))
        return 0

    async with serve_guests(app, Guest(on_request_body=sees)) as middleware:
        connection = Connection(middleware, "POST", headers=[(LENGTH, b"0")])
        connection.feed(b"abc")
        await connection.over()
    assert app.body == b"abc" and seen == [b"abc"] and app.ends == 1


async def test_a_look_ahead_that_is_cancelled_leaves_no_task(serve_guests: Serve) -> None:
    async with serve_guests(App(), Guest(on_request_body=passing)) as middleware:
        before = tasks()

        async def receive() -> Message:
            await asyncio.sleep(3600)
            raise AssertionError

        async def send(message: Message) -> None:
            raise AssertionError

        for _ in range(4):
            task = asyncio.ensure_future(middleware(http_scope("POST", http_version="2"), receive, send))
            for _ in range(2):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await settled()
            assert tasks() == before
