"""What belongs to one connection, and the end of what a server cannot end: as bare, and one line in the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import passing
from tests.driving import Response, answering, http_scope, request
from tests.guests import PAUSE, REQUEST_HEADERS, RESPONSE_HEADERS, RESPONSE_TRAILERS, Guest, Serve

HOPS = [b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade"]
SIZED = [(b"content-length", b"5")]


def adds(kind: int, name: bytes, value: bytes = b"x") -> Any:
    def callback(api: Hostcalls, *_: int) -> int:
        api.add_header_map_value(kind, name, value)
        return 0

    return callback


async def ask(serve_guests: Serve, app: Any, *guests: Guest, **more: Any) -> Response:
    async with serve_guests(app, *guests) as middleware:
        return await request(middleware, **more)


@pytest.mark.parametrize("name", HOPS)
@pytest.mark.parametrize("body", [False, True], ids=["lane", "exchange"])
@pytest.mark.parametrize("local", [False, True], ids=["app", "local"])
async def test_hop_fields_over_http2(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture, name: bytes, body: bool, local: bool
) -> None:
    def replies(api: Hostcalls, *_: int) -> int:
        api.send_local_response(403, b"hello")
        return PAUSE

    async def asked(version: str) -> Response:
        own: dict[str, Any] = {"on_response_body": passing} if body else {}
        own |= {"on_request_headers": replies} if local else {}
        guest = Guest(on_response_headers=adds(RESPONSE_HEADERS, name), **own)
        return await ask(serve_guests, answering(b"hello", headers=SIZED), guest, http_version=version)

    assert (await asked("1.1")).header(name) == b"x"
    caplog.clear()
    response = await asked("2")
    assert response.header(name) is None and response.body == b"hello"
    told = [record.getMessage() for record in caplog.records if "left out headers" in record.getMessage()]
    assert len(told) == 1 and "'g0'" in told[0] and name.decode() in told[0]


async def test_a_hop_field_of_the_app_is_for_its_server_to_judge(serve_guests: Serve) -> None:
    app = answering(b"hello", headers=[*SIZED, (b"te", b"gzip")])
    guest = Guest(on_response_headers=adds(RESPONSE_HEADERS, b"x-by"), on_response_body=passing)
    assert (await ask(serve_guests, app, guest, http_version="2")).header(b"te") == b"gzip"


@pytest.mark.parametrize("change", ["removes", "adds te", "adds content-length", "leaves"])
async def test_promised_trailers_are_sent_and_never_empty(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    """There are servers that cannot end a stream with none (hypercorn)."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": SIZED, "trailers": True})
        await send({"type": "http.response.body", "body": b"hello"})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})

    def on_trailers(api: Hostcalls, *_: int) -> int:
        if change == "removes":
            api.remove_header_map_value(RESPONSE_TRAILERS, b"x-sum")
        elif change != "leaves":
            api.add_header_map_value(RESPONSE_TRAILERS, change.removeprefix("adds ").encode(), b"1")
        return 0

    extensions: dict[str, Any] = {"http.response.trailers": {}}
    guest = Guest(on_response_trailers=on_trailers)
    response = await ask(serve_guests, app, guest, http_version="2", extensions=extensions)
    trailers = [message for message in response.messages if message["type"] == "http.response.trailers"]
    names = [name for name, _ in trailers[0]["headers"]]
    assert len(trailers) == 1 and response.messages[-1] is trailers[0]
    assert names == ([b"x-trailers"] if change == "removes" else [b"x-sum"])
    assert ("left out headers" in caplog.text) == change.startswith("adds")


async def test_a_stream_that_a_plugin_made_too_short_is_ended_over_http2(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A server would leave it open for ever; the client sees by the length that it is malformed."""
    pieces = [b"ab", b"cd"]

    def on_body(api: Hostcalls, context: int, size: int, end: int) -> int:
        if end:
            api.set_buffer_bytes(1, b"")
        return 0

    app = answering(*pieces, headers=[(b"content-length", b"4")])
    response = await ask(serve_guests, app, Guest(on_response_body=on_body), http_version="2")
    assert response.complete and response.body == b"ab" and response.header(b"content-length") == b"4"
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(told) == 1 and "'g0'" in told[0]


async def test_an_answer_to_connect_that_its_server_takes_for_a_tunnel(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """h11 takes no body after it, not even its end."""

    def replies(api: Hostcalls, *_: int) -> int:
        api.send_local_response(200, b"hello")
        return PAUSE

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if sent:
            raise RuntimeError("state=SWITCHED_PROTOCOL")
        sent.append(message)

    async with serve_guests(answering(), Guest(on_request_headers=replies)) as middleware:
        await middleware(http_scope("CONNECT"), receive, send)
    assert sent[0]["status"] == 200 and not any(name == b"content-length" for name, _ in sent[0]["headers"])
    assert caplog.text.count("CONNECT") == 1


@pytest.mark.parametrize("name", [b"transfer-encoding", b"content-length"])
@pytest.mark.parametrize("callbacks", [{}, {"on_request_body": passing}], ids=["lane", "exchange"])
async def test_framing_that_a_plugin_writes_into_a_request(
    serve_guests: Serve, name: bytes, callbacks: dict[str, Any]
) -> None:
    """How the message came is for the server to say."""
    seen: list[list[tuple[bytes, bytes]]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(list(scope["headers"]))
        await answering(b"hello")(scope, receive, send)

    value = b"chunked" if name == b"transfer-encoding" else b"300"
    for body in [b"abc"], []:
        guest = Guest(on_request_headers=adds(REQUEST_HEADERS, name, value), **callbacks)
        await ask(serve_guests, app, guest, method="POST", body=body)
    lengths = [[value for name, value in headers if name == b"content-length"] for headers in seen]
    assert lengths in ([[b"3"], []], [[b"3"], [b"0"]])
    assert not any(name == b"transfer-encoding" for headers in seen for name, _ in headers)
