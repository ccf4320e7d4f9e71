"""What goes out is as long as it says, whatever plugins do to a body or to what is said of it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import Resumer, passing
from tests.asgi.messages.lengthy import LENGTH, SIZED, ask
from tests.driving import Connection, Response, answering, until
from tests.guests import PAUSE, REQUEST_HEADERS, RESPONSE, RESPONSE_BODY, RESPONSE_HEADERS, Guest, Serve


def lengths(response: Response) -> list[bytes]:
    return [value for name, value in response.headers if name == LENGTH]


def is_true(response: Response, method: str = "GET") -> bool:
    """Whether the length is true or absent, and the body whole."""
    said = lengths(response)
    if method == "HEAD" or response.status == 304:
        return response.body == b"" and len(said) <= 1
    if response.status == 204:
        return response.body == b"" and not said
    return response.complete and said in ([], [b"%d" % len(response.body)])


def on_body(*changes: bytes | None) -> Any:
    """A callback that replaces the pieces of a response by these; None leaves one as it is."""
    left = list(changes)

    def callback(api: Hostcalls, context: int, size: int, end: int) -> int:
        change = left.pop(0) if left else None
        if change is not None:
            api.set_buffer_bytes(RESPONSE_BODY, change)
        return 0

    return callback


def says(value: bytes | None, kind: int = RESPONSE_HEADERS) -> Any:
    def callback(api: Hostcalls, *_: int) -> int:
        if value is None:
            api.remove_header_map_value(kind, LENGTH)
        else:
            api.replace_header_map_value(kind, LENGTH, value)
        return 0

    return callback


def turns(name: bytes, value: bytes, kind: int = RESPONSE_HEADERS) -> Any:
    def callback(api: Hostcalls, *_: int) -> int:
        api.replace_header_map_value(kind, name, value)
        return 0

    return callback


BODIES: dict[str, dict[str, Any]] = {
    "no callback": {},
    "passes": {"on_response_body": passing},
    "grows": {"on_response_body": on_body(b"longer than it was")},
    "shrinks": {"on_response_body": on_body(b"")},
}
WRITTEN: dict[str, Any] = {
    "left": passing,
    "taken": says(None),
    "3": says(b"3"),
    "300": says(b"300"),
    "0": says(b"0"),
    "none at all": says(b"many"),
}
HEADS: dict[str, Any] = {
    "200": passing,
    "204": turns(b":status", b"204"),
    "304": turns(b":status", b"304"),
    "206": turns(b":status", b"206"),
}


def both(*callbacks: Any) -> Any:
    def callback(api: Hostcalls, *arguments: int) -> int:
        for each in callbacks:
            each(api, *arguments)
        return 0

    return callback


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_of_an_app(serve_guests: Serve, body: str, written: str, head: str, method: str) -> None:
    for headers in SIZED, []:
        content = () if method == "HEAD" else (b"abcdef",)
        guest = Guest(on_response_headers=both(WRITTEN[written], HEADS[head]), **BODIES[body])
        response = await ask(serve_guests, answering(*content, headers=headers), guest, method=method)
        assert is_true(response, method), response
        if headers and method == "GET" and head == "200":
            # The body was whole when the head went out: so its length is said, also where a plugin took it away.
            assert lengths(response) == [b"%d" % len(response.body)]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("status", [403, 204, 304])
@pytest.mark.parametrize("content", [b"denied", b""])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_of_a_local_response(
    serve_guests: Serve, body: str, written: str, status: int, content: bytes, method: str
) -> None:
    def replies(api: Hostcalls, *_: int) -> int:
        api.send_local_response(status, content)
        return PAUSE

    guest = Guest(on_request_headers=replies, on_response_headers=WRITTEN[written], **BODIES[body])
    response = await ask(serve_guests, answering(), guest, method=method)
    assert is_true(response, method) and response.status == status, response
    if status == 403 and method == "GET":
        assert lengths(response) == [b"%d" % len(response.body)]


PIECES = (b"ab", b"cd", b"ef")


@pytest.mark.parametrize("changes", [(None, b"c"), (None, None, b"e"), (None, b"c", b"")])
async def test_too_few_bytes_end_the_connection(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture, changes: tuple[bytes | None, ...]
) -> None:
    guest = Guest(on_response_body=on_body(*changes))
    response = await ask(serve_guests, answering(*PIECES, headers=SIZED), guest)
    assert lengths(response) == [b"6"] and len(response.body) < 6 and not response.complete
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(told) == 1 and "'g0'" in told[0] and "of 6 bytes" in told[0], told


@pytest.mark.parametrize("changes", [(None, b"cdef"), (None, None, b"efgh"), (None, b"c" * 70, b"d")])
async def test_no_more_bytes_than_announced(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture, changes: tuple[bytes | None, ...]
) -> None:
    guests = Guest(on_response_body=passing), Guest(on_response_body=on_body(*changes))
    response = await ask(serve_guests, answering(*PIECES, headers=SIZED), *guests)
    assert lengths(response) == [b"6"] and len(response.body) == 6 and response.complete
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(told) == 1 and "'g1'" in told[0] and "'g0'" not in told[0] and "6 bytes" in told[0], told


@pytest.mark.parametrize("changes", [(b"", None, None), (b"longer", None, None)])
async def test_a_change_before_the_head_is_out_leaves_no_length(
    serve_guests: Serve, changes: tuple[bytes, ...]
) -> None:
    response = await ask(serve_guests, answering(*PIECES, headers=SIZED), Guest(on_response_body=on_body(*changes)))
    assert lengths(response) == [] and response.complete


async def test_a_length_that_fits_the_change_is_kept(serve_guests: Serve) -> None:
    guest = Guest(on_response_headers=says(b"9"), on_response_body=on_body(b"<p>ab"))
    response = await ask(serve_guests, answering(*PIECES, headers=SIZED), guest)
    assert lengths(response) == [b"9"] and response.body == b"<p>abcdef"
    # Nobody knows how long this one is.
    guest = Guest(on_response_headers=says(b"9"), on_response_body=on_body(b"<p>ab"))
    assert lengths(await ask(serve_guests, answering(*PIECES), guest)) == []


async def test_an_app_that_does_not_keep_to_its_own_length_hears_so_from_its_server(serve_guests: Serve) -> None:
    guest = Guest(on_response_body=passing)
    response = await ask(serve_guests, answering(b"abcd", b"efgh", headers=SIZED), guest)
    assert lengths(response) == [b"6"] and response.body == b"abcdefgh"


async def test_two_plugins_that_only_hold_leave_the_length(serve_guests: Serve) -> None:
    inner, outer = Resumer(), Resumer()
    held: dict[Resumer, int] = {}

    def holds(who: Resumer, at: int) -> Any:
        count = [0]

        def callback(api: Hostcalls, context: int, size: int, end: int) -> int:
            count[0] += 1
            held[who] = context
            return int(count[0] == at)

        return callback

    def lets_go(who: Resumer) -> Any:
        def act(api: Hostcalls) -> None:
            api.set_effective_context(held[who])
            api.continue_stream(RESPONSE)

        return act

    async def main() -> Response:
        guests = (
            Guest(on_response_body=holds(outer, 1), **outer.callbacks),
            Guest(on_response_body=holds(inner, 2), **inner.callbacks),
        )
        async with serve_guests(answering(b"abc", b"def", headers=SIZED), *guests) as middleware:
            connection = Connection(middleware)
            connection.feed()
            await until(lambda: len(held) == 2)
            outer.later(lets_go(outer))
            await outer.done()
            inner.later(lets_go(inner))
            return await connection.over()

    response: Response = await main()
    assert lengths(response) == [b"6"] and response.body == b"abcdef"


@pytest.mark.parametrize("callbacks", [{}, {"on_response_body": passing}], ids=["no callback", "body callback"])
@pytest.mark.parametrize(("asked", "turned"), [("GET", b"HEAD"), ("HEAD", b"GET")])
async def test_a_turned_method(serve_guests: Serve, callbacks: dict[str, Any], asked: str, turned: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["method"] == turned.decode()
        await send({"type": "http.response.start", "status": 200, "headers": SIZED})
        await send({"type": "http.response.body", "body": b"abcdef" if turned == b"GET" else b""})

    guest = Guest(on_request_headers=turns(b":method", turned, REQUEST_HEADERS), **callbacks)
    response = await ask(serve_guests, app, guest, method=asked)
    assert is_true(response, asked) and response.complete
    assert lengths(response) == ([b"0"] if asked == "GET" else [b"6"])


async def test_a_connect_has_no_body(serve_guests: Serve) -> None:
    def replies(api: Hostcalls, *_: int) -> int:
        api.send_local_response(200, b"tunnel")
        return PAUSE

    response = await ask(serve_guests, answering(), Guest(on_request_headers=replies), method="CONNECT")
    assert response.status == 200 and response.body == b"" and lengths(response) == []
