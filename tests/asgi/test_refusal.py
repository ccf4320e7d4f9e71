"""What the settings have refused before any plugin: requests that no route names, escaped slashes."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from tests.driving import Response, answering, http_scope
from tests.plugins.conftest import PLUGINS

PLUGIN = {"name": "p", "file": PLUGINS / "headers" / "c.wasm"}
ROUTES: Any = {"default": "deny", "public": {"uri": "/public/*", "plugins": {"p": {}}}}


async def ask(app: Any, path: str = "/", **more: Any) -> Response:
    response = Response()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        response.messages.append(message)

    await app({**http_scope(path=path), **more}, receive, send)
    return response


async def test_what_no_route_names_is_answered_as_apisix_answers() -> None:
    async with WasmMiddleware(answering(b"app"), settings={"plugins": [PLUGIN], "routes": ROUTES}) as middleware:
        assert (await ask(middleware, "/public/x")).body == b"app"
        refused = await ask(middleware, "/secret")
        assert (refused.status, refused.body) == (404, b'{"error_msg":"404 Route Not Found"}\n')
        assert refused.header(b"content-type") == b"application/json"
        head = await ask(middleware, "/secret", method="HEAD")
        assert (head.status, head.body, head.header(b"content-length")) == (404, b"", b"36")


@pytest.mark.parametrize("can_answer", [True, False])
async def test_an_unrouted_websocket_is_denied(can_answer: bool) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {**http_scope(path="/secret"), "type": "websocket", "subprotocols": []}
    del scope["method"]
    if can_answer:
        scope["extensions"] = {"websocket.http.response": {}}
    async with WasmMiddleware(answering(b"app"), settings={"plugins": [PLUGIN], "routes": ROUTES}) as middleware:
        await middleware(scope, receive, send)
    if can_answer:
        assert [message["type"] for message in sent] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert sent[0]["status"] == 404
    else:
        assert sent == [{"type": "websocket.close", "code": 1011, "reason": "Not Found"}]


@pytest.mark.parametrize(
    ("action", "status", "seen"),
    [
        ("keep_unchanged", 200, b"/a%2Fb%5cc"),
        ("KEEP_UNCHANGED", 200, b"/a%2Fb%5cc"),
        ("unescape_and_forward", 200, b"/a/b\\c"),
        ("reject_request", 400, None),
        ("unescape_and_redirect", 307, None),
    ],
)
async def test_escaped_slashes(action: str, status: int, seen: bytes | None) -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await answering(b"app")(scope, receive, send)

    settings = {"plugins": [PLUGIN], "path_with_escaped_slashes_action": action}
    async with WasmMiddleware(app, settings=settings) as middleware:
        odd = await ask(middleware, raw_path=b"/a%2Fb%5cc", path="/a/b\\c", query_string=b"x=1")
        assert odd.status == status
        if status == 307:
            assert odd.header(b"location") == b"/a/b\\c?x=1"
        plain = await ask(middleware, "/plain")
        assert plain.status == 200
        without = await ask(middleware, raw_path=None)
        assert without.status == 200
    assert [scope["raw_path"] for scope in scopes][:-2] == ([] if seen is None else [seen])


async def test_a_redirect_leads_to_this_server() -> None:
    settings = {"plugins": [PLUGIN], "path_with_escaped_slashes_action": "unescape_and_redirect"}
    async with WasmMiddleware(answering(b"app"), settings=settings) as middleware:
        odd = await ask(middleware, raw_path=b"/%2Fevil.test/%5C", path="//evil.test/\\", query_string=b"")
        assert odd.header(b"location") == b"/evil.test/\\"
