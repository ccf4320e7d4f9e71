"""Lengths where a body is not the plugins'"""

from __future__ import annotations

import pytest

from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import Resumer, passing, pausing
from tests.asgi.messages.lengthy import EXTENSIONS, SIZED, ask
from tests.driving import Response, http_scope, request
from tests.guests import PAUSE, RESPONSE, RESPONSE_BODY, Guest, Serve


def recording(messages: list[Message], *sends: Message) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in sends:
            await send(message)

    return app


START: Message = {"type": "http.response.start", "status": 200, "headers": SIZED}
FILE: Message = {"type": "http.response.pathsend", "path": "/file"}
COPY: Message = {"type": "http.response.zerocopysend", "file": 3, "more_body": False}
BODY: Message = {"type": "http.response.body", "body": b"abcdef"}
EMPTY: Message = {"type": "http.response.body", "body": b""}
TRAILERS: Message = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}


class StrictServer:
    """Takes what the specification allows, and nothing after the end."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.messages: list[Message] = []
        self._promised = False

    async def receive(self) -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        kind = message["type"].removeprefix("http.response.")
        ended = any(
            each["type"] != "http.response.start" and not each.get("more_body", False) for each in self.messages
        )
        if kind == "start":
            assert not self.messages, "a second start"
            self._promised = bool(message.get("trailers"))
        elif kind == "trailers":
            assert self._promised and ended, "trailers out of place"
            self._promised = False
        else:
            assert self.messages and not ended, f"{kind} out of place"
        self.kinds.append(kind)
        self.messages.append(message)


@pytest.mark.parametrize("callbacks", [("on_response_headers",), ("on_response_trailers",), ("on_response_body",)])
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("head", ["200", "204", "304", "HEAD"])
@pytest.mark.parametrize("trailers", [False, True])
@pytest.mark.parametrize("piece", [FILE, COPY, BODY, EMPTY], ids=["file", "copy", "body", "empty"])
async def test_the_end_comes_once(
    serve_guests: Serve, callbacks: tuple[str], held: bool, head: str, trailers: bool, piece: Message
) -> None:
    resumer = Resumer()
    reads_body = callbacks == ("on_response_body",)

    own = (
        dict.fromkeys(callbacks, passing) | ({"on_response_headers": resumer.holds} if held else {}) | resumer.callbacks
    )
    start = {**START, "status": int(head) if head.isdigit() else 200, **({"trailers": True} if trailers else {})}
    sends = [start, BODY if reads_body and piece in (FILE, COPY) else piece, *([TRAILERS] if trailers else [])]

    async def main() -> StrictServer:
        server = StrictServer()
        async with serve_guests(recording([], *sends), Guest(**own)) as middleware:
            scope = http_scope("HEAD" if head == "HEAD" else "GET", extensions=EXTENSIONS)
            await middleware(scope, server.receive, server.send)
        return server

    server: StrictServer = await main()
    has_body = head == "200"
    sent = sends[1]["type"].removeprefix("http.response.")
    if has_body:
        assert list(dict.fromkeys(server.kinds)) == ["start", sent, *(["trailers"] if trailers else [])]
    else:
        assert server.kinds == ["start", "body"] and server.messages[1]["body"] == b""
        assert not server.messages[0].get("trailers")


async def test_a_file_never_passes_a_plugin_that_reads_bodies(serve_guests: Serve) -> None:
    """Also not when an app sends one that was not offered to it."""

    async def main() -> StrictServer:
        server = StrictServer()
        async with serve_guests(recording([], START, FILE), Guest(on_response_body=passing)) as middleware:
            with pytest.raises(RuntimeError, match="pathsend"):
                await middleware(http_scope(extensions=EXTENSIONS), server.receive, server.send)
        return server

    assert (await main()).kinds == []


@pytest.mark.parametrize("held", ["on_response_headers", "on_response_body"])
async def test_what_an_app_sends_after_its_end_passes_no_plugin_by(serve_guests: Serve, held: str) -> None:
    """What is held goes out first; then the server is to judge."""
    resumer = Resumer()

    async def main() -> StrictServer:
        server = StrictServer()
        guest = Guest(**{"on_response_body": passing, held: resumer.holds}, **resumer.callbacks)
        async with serve_guests(recording([], START, BODY, {**BODY, "more_body": True}), guest) as middleware:
            with pytest.raises(AssertionError, match="body out of place"):
                await middleware(http_scope(), server.receive, server.send)
        return server

    server: StrictServer = await main()
    assert server.kinds == ["start", "body"] and server.messages[1]["body"] == b"abcdef"


async def test_a_held_response_is_not_asked_for_a_verdict_that_does_not_come(serve_guests: Serve) -> None:
    guest = Guest(on_response_headers=pausing, on_response_trailers=passing)

    async def main() -> Response:
        async with serve_guests(recording([], START, FILE), guest, pause_timeout=0.05) as middleware:
            return await request(middleware, extensions=EXTENSIONS)

    assert (await main()).status == 504


# --- at a resume, as in Envoy


@pytest.mark.parametrize("content", [b"", b"changed"])
@pytest.mark.parametrize("order", ["change, resume", "resume, change"])
async def test_a_held_piece_is_changed_at_its_resume(serve_guests: Serve, content: bytes, order: str) -> None:
    """Envoy resumes when the callback has returned, so what comes after the resume counts too; an emptied piece is
    still one to the next plugin.
    """
    resumer = Resumer()
    heard: list[tuple[bytes, int]] = []

    def holds(api: Hostcalls, context: int, size: int, end: int) -> int:
        def lets_go(late: Hostcalls) -> None:
            late.set_effective_context(context)
            for act in order.split(", "):
                if act == "change":
                    late.set_buffer_bytes(RESPONSE_BODY, content)
                else:
                    late.continue_stream(RESPONSE)

        if end:
            return 0
        resumer.later(lets_go)
        return PAUSE

    def hears(api: Hostcalls, context: int, size: int, end: int) -> int:
        heard.append((api.get_buffer_bytes(RESPONSE_BODY), end))
        return 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await resumer.done()
        await send({"type": "http.response.body", "body": b"last"})

    guests = Guest(on_response_body=hears), Guest(on_response_body=holds, **resumer.callbacks)
    response = await ask(serve_guests, app, *guests)
    assert heard == [(content, 0), (b"last", 1)] and response.body == content + b"last"
