"""Our own plugins, each in its language, on every engine: what their README says of them."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from asgi_wasm import PluginStartError
from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.host.ports import PortError
from asgi_wasm.services.stores.memory import MemorySharedData
from tests.driving import Response, answering, request
from tests.plugins.conftest import Make, Wrap

TRAILERS: dict[str, Any] = {"extensions": {"http.response.trailers": {}}}


async def asked(wrap: Wrap, app: Any, file: str, entry: dict[str, Any] | None = None, **what: Any) -> Response:
    """The answer to one request."""
    middleware = wrap(app, file, **(entry or {}))
    await middleware.start()
    response = await request(middleware, **what)
    await middleware.stop()
    return response


async def mirror(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it got: the body as body, the request headers as ``got-…``."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    headers = [(b"got-" + name, value) for name, value in scope["headers"]]
    headers += [(b"got-path", scope["raw_path"]), (b"got-query", scope["query_string"])]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# --- headers, in Rust


async def test_headers_both_ways(wrap: Wrap) -> None:
    conf = {
        "request": {"remove": ["x-old"], "set": {"x-set": "1"}, "add": {"x-twice": "2"}},
        "response": {"remove": ["got-x-set"], "set": {"x-plugin": "rust"}, "add": {"got-host": "more"}},
        "path": "/new?q=1",
    }
    sent = [(b"x-old", b"1"), (b"x-set", b"old"), (b"x-twice", b"1"), (b"x-raw", b"\xff")]
    response = await asked(wrap, mirror, "headers/rust", {"conf": conf}, path="/old", headers=sent)
    got = response.headers
    assert [value for name, value in got if name == b"got-x-twice"] == [b"1", b"2"]
    assert [value for name, value in got if name == b"got-host"] == [b"example.test", b"more"]
    names = dict(got)
    assert b"got-x-old" not in names
    assert b"got-x-set" not in names
    assert (names[b"x-plugin"], names[b"got-x-raw"]) == (b"rust", b"\xff")
    assert (names[b"got-path"], names[b"got-query"]) == (b"/new", b"q=1")
    assert names[b"got-x-seen-path"] == b"/old"
    assert names[b"got-x-seen-method"] == b"GET"
    assert names[b"got-x-seen-authority"] == b"example.test"
    assert names[b"got-x-seen-scheme"] == b"http"
    assert names[b"got-x-seen-end-of-stream"] == b"true"
    assert names[b"got-x-seen-count"] == b"8"
    assert (names[b"x-seen-status"], names[b"x-seen-end-of-stream"]) == (b"200", b"false")


async def test_headers_refuses_a_conf(wrap: Wrap) -> None:
    with pytest.raises(PluginStartError, match="its last words: headers: "):
        await asked(wrap, mirror, "headers/rust", {"conf": "["})


# --- body, in Go


@pytest.mark.parametrize(
    ("mode", "chunks", "whole"),
    [
        ("append", [b"ab", b"cdX"], b"abcdX"),
        ("prepend", [b"Xab", b"cd"], b"Xabcd"),
        ("replace", [b"X"], b"X"),
        ("upper", [b"AB", b"CD"], b"ABCD"),
        ("buffer", [b"4:abcd"], b"4:abcd"),
    ],
)
@pytest.mark.parametrize("direction", ["request", "response"])
async def test_body(wrap: Wrap, direction: str, mode: str, chunks: list[bytes], whole: bytes) -> None:
    conf = {"direction": direction, "mode": mode, "text": "X"}
    app = mirror if direction == "request" else answering(b"ab", b"cd")
    body = [b"ab", b"cd"] if direction == "request" else []
    response = await asked(wrap, app, "body/go", {"conf": conf}, method="POST", body=body)
    assert response.body == whole
    if direction == "response":
        assert [chunk for chunk in response.chunks if chunk] == chunks
    else:
        assert response.header(b"got-content-length") is None


async def test_body_that_keeps_a_content_length(wrap: Wrap) -> None:
    """The host makes it true where it can: the whole body came at once."""
    conf = {"direction": "response", "mode": "append", "text": "!", "keep_content_length": True}
    app = answering(b"abc", headers=[(b"content-length", b"3")])
    response = await asked(wrap, app, "body/go", {"conf": conf})
    assert (response.body, response.header(b"content-length")) == (b"abc!", b"4")


async def test_body_whose_end_comes_in_a_message_of_its_own(wrap: Wrap) -> None:
    """The last callback has nothing of the body, and may add to it nevertheless."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    conf = {"direction": "response", "mode": "append", "text": "X"}
    assert (await asked(wrap, app, "body/go", {"conf": conf})).body == b"abX"


async def test_body_refuses_a_conf(wrap: Wrap) -> None:
    with pytest.raises(PluginStartError, match="no such mode"):
        await asked(wrap, mirror, "body/go", {"conf": {"mode": "lower"}})


# --- local_reply, in AssemblyScript


@pytest.mark.parametrize(
    ("phase", "callbacks"),
    [
        ("request_headers", ["request_headers", "response_headers", "response_body", "on_log 403"]),
        ("request_body", ["request_headers", "request_body", "response_headers", "response_body", "on_log 403"]),
        ("response_headers", ["request_headers", "request_body", "response_headers", "on_log 403"]),
        ("response_body", ["request_headers", "request_body", "response_headers", "response_body", "on_log 403"]),
    ],
)
async def test_local_reply(wrap: Wrap, caplog: pytest.LogCaptureFixture, phase: str, callbacks: list[str]) -> None:
    """A reply to the request passes the plugin's own response callbacks; one that replaces a response does not."""
    conf = {"phase": phase, "body": "no", "details": "because", "headers": {"x-why": "1"}}
    entry = {"conf": conf, "root_id": "local_reply"}
    app = answering(b"app", headers=[(b"content-length", b"3")])
    with caplog.at_level(logging.INFO, logger="asgi_wasm.plugin"):
        response = await asked(wrap, app, "local_reply/assemblyscript", entry, method="POST", body=[b"x"])
    assert (response.status, response.body, response.header(b"x-why")) == (403, b"no", b"1")
    assert response.header(b"content-length") == b"2"
    # (This SDK aborts in the `on_delete` of its root context, when all is over.)
    lines = [record.getMessage().partition("local_reply: ") for record in caplog.records]
    said = [line for before, found, line in lines if found and not before]
    assert said == callbacks


async def test_local_reply_to_a_grpc_request(wrap: Wrap) -> None:
    conf = {"body": "not you", "grpc_status": 7}
    entry = {"conf": conf, "root_id": "local_reply"}
    headers = [(b"content-type", b"application/grpc")]
    response = await asked(wrap, mirror, "local_reply/assemblyscript", entry, headers=headers)
    assert (response.status, response.body) == (200, b"")
    assert response.header(b"grpc-status") == b"7"
    assert response.header(b"grpc-message") == b"not you"


async def test_local_reply_aborts_on_a_bad_conf(wrap: Wrap) -> None:
    with pytest.raises(PluginStartError, match="it trapped while starting"):
        await asked(wrap, mirror, "local_reply/assemblyscript", {"conf": "{", "root_id": "local_reply"})


# --- counter, in AssemblyScript


async def test_counter(plugin: Make) -> None:
    """Shared data, metrics and a property that the app reads too."""
    made = plugin("counter/assemblyscript", "hits", root_id="counter")
    for path, count, user in (("/a?x", "1", ""), ("/a", "2", "alice"), ("/b", "1", "bob")):
        exchange = await made.get(path, headers={"x-user": user} if user else {})
        assert exchange.headers["x-count"] == count
        assert exchange.headers["x-count-user"] == (user or "nobody")
        assert exchange.app is not None and exchange.app.scope["asgi_wasm"]["user"] == (user or "nobody").encode()


@pytest.mark.parametrize("refused", ["get", "set"])
async def test_a_count_outlasts_a_store_that_refuses(
    wrap: Wrap, refused: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A read that is refused is no missing key: the count does not start again, and what is not kept is not told."""

    def refusing(*_: Any) -> Any:
        raise PortError("the store is away")

    async def main() -> None:
        middleware = wrap(answering(b""), "counter/assemblyscript", root_id="counter")
        await middleware.start()
        counts = [(await request(middleware)).header(b"x-count") for _ in range(2)]
        with monkeypatch.context() as away:
            away.setattr(MemorySharedData, refused, refusing)
            response = await request(middleware)
            assert (response.status, response.header(b"x-count-user")) == (200, b"nobody")
            counts.append(response.header(b"x-count"))
        counts.append((await request(middleware)).header(b"x-count"))
        assert counts == [b"1", b"2", None, b"3"]
        await middleware.stop()

    await main()
    verb = "read" if refused == "get" else "written"
    assert f"counter: the count cannot be {verb}: status 10" in caplog.text


# --- queue, in Rust


async def test_queue_and_timer(plugin: Make) -> None:
    made = plugin("queue/rust", {"tick_ms": 5})
    await made.start()
    await asyncio.gather(*(made.get(f"/{number}") for number in range(3)))
    await made.advance(0.01)
    lines = [line.text for line in made.logs if not line.by_host]
    assert [line for line in lines if "queue: tick" in line][-1].startswith("queue: tick 2")
    assert [line for line in lines if "dequeued" in line] == [f"queue: dequeued /{number}" for number in range(3)]


# --- trailers, in C


@pytest.mark.parametrize("made", [True, False], ids=["made", "found"])
async def test_trailers(wrap: Wrap, made: bool) -> None:
    """Found ones get one more. ASGI needs them announced with the head, so made ones end here."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": not made})
        await send({"type": "http.response.body", "body": b"app"})
        if not made:
            await send({"type": "http.response.trailers", "headers": [(b"x-app", b"1")]})

    response = await asked(wrap, app, "trailers/c", {"conf": "value"}, **TRAILERS)
    assert (response.body, response.complete) == (b"app", True)
    last = response.messages[-1]
    if made:
        assert last["type"] == "http.response.body"
    else:
        assert last["headers"] == [(b"x-app", b"1"), (b"x-plugin-trailer", b"value")]


async def test_trailers_of_a_request_end_at_the_border(wrap: Wrap) -> None:
    """ASGI has none: the body ends where they would come."""
    response = await asked(wrap, mirror, "trailers/c", method="POST", body=[b"ab", b"cd"])
    assert response.body == b"abcd"


# --- root_id, in AssemblyScript by the older SDK


@pytest.mark.parametrize("root_id", ["first", "second"])
async def test_root_id(wrap: Wrap, root_id: str) -> None:
    response = await asked(wrap, mirror, "root_id/assemblyscript", {"root_id": root_id})
    assert response.header(b"x-root-id") == root_id.encode()


async def test_unknown_root_id(wrap: Wrap) -> None:
    with pytest.raises(PluginStartError, match="it trapped while starting"):
        await asked(wrap, mirror, "root_id/assemblyscript", {"root_id": "third"})


# --- all at once


async def test_plugins_of_every_sdk_in_one_chain(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Rust, Go, AssemblyScript and C, each with a VM of its own, in one request."""
    from asgi_wasm import WasmMiddleware
    from tests.plugins.conftest import PLUGINS

    plugins: list[dict[str, Any]] = [
        {"name": "headers", "file": PLUGINS / "headers/rust.wasm", "priority": 4},
        {"name": "body", "file": PLUGINS / "body/go.wasm", "priority": 3, "conf": json.dumps({"mode": "upper"})},
        {"name": "counter", "file": PLUGINS / "counter/assemblyscript.wasm", "priority": 2, "root_id": "counter"},
        {"name": "trailers", "file": PLUGINS / "trailers/c.wasm", "priority": 1},
    ]
    cache = tmp_path_factory.getbasetemp() / "compiled"

    async def main() -> Response:
        middleware = WasmMiddleware(mirror, settings={"plugins": plugins, "cache_dir": str(cache)})
        await middleware.start()
        response = await request(middleware, "POST", body=[b"ab", b"cd"])
        await middleware.stop()
        return response

    response = await main()
    assert response.body == b"ABCD"
    assert response.header(b"x-count") == b"1"
    assert response.header(b"x-seen-status") == b"200"
