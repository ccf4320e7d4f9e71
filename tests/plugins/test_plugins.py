"""Our own plugins, each in its language, on every engine: what their README says of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_wasm import PluginStartError
from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.host.ports import PortError
from asgi_wasm.services.stores.memory import MemorySharedData
from asgi_wasm.testing import WasmHost
from tests.plugins.conftest import PLUGINS, Make

# --- headers, in Rust


async def test_headers_both_ways(plugin: Make) -> None:
    conf = {
        "request": {"remove": ["x-old"], "set": {"x-set": "1"}, "add": {"x-twice": "2"}},
        "response": {"remove": ["x-app"], "set": {"x-plugin": "rust"}, "add": {"x-more": "more"}},
        "path": "/new?q=1",
    }
    made = plugin("headers/rust", conf)
    made.app.respond(body=b"x", headers={"x-app": "1", "x-more": "app"})
    sent: list[tuple[str | bytes, str | bytes]] = [
        ("x-old", "1"),
        ("x-set", "old"),
        ("x-twice", "1"),
        ("x-raw", b"\xff"),
    ]
    exchange = await made.get("/old", headers=sent)
    app = exchange.app
    assert app is not None and app.target == "/new?q=1"
    assert (app.headers["host"], app.headers["x-raw"]) == ("example.test", "\xff")
    assert app.headers.getlist("x-twice") == ["1", "2"] and app.headers.getlist("x-set") == ["1"]
    assert "x-old" not in app.headers
    seen = [app.headers[f"x-seen-{part}"] for part in ("path", "method", "authority", "scheme", "end-of-stream")]
    assert seen == ["/old", "GET", "example.test", "http", "true"]
    assert app.headers["x-seen-count"] == "8"
    got = exchange.headers
    assert "x-app" not in got and got["x-plugin"] == "rust" and got.getlist("x-more") == ["app", "more"]
    assert (got["x-seen-status"], got["x-seen-end-of-stream"]) == ("200", "false")


async def test_headers_refuses_a_conf(plugin: Make) -> None:
    with pytest.raises(PluginStartError, match="its last words: headers: "):
        await plugin("headers/rust", "[").start()


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
async def test_body(plugin: Make, direction: str, mode: str, chunks: list[bytes], whole: bytes) -> None:
    made = plugin("body/go", {"direction": direction, "mode": mode, "text": "X"})
    made.app.respond(body=[b"ab", b"cd"])
    exchange = await made.post(body=[b"ab", b"cd"])
    if direction == "response":
        assert [chunk for chunk in exchange.chunks if chunk] == chunks
    else:
        assert exchange.app is not None and exchange.app.body == whole
        assert "content-length" not in exchange.app.headers


async def test_body_that_keeps_a_content_length(plugin: Make) -> None:
    """The host makes it true where it can: the whole body came at once."""
    conf = {"direction": "response", "mode": "append", "text": "!", "keep_content_length": True}
    made = plugin("body/go", conf)
    made.app.respond(body=b"abc")
    exchange = await made.get()
    assert (exchange.body, exchange.headers["content-length"]) == (b"abc!", "4")


async def test_body_whose_end_comes_in_a_message_of_its_own(plugin: Make) -> None:
    """The last callback has nothing of the body, and may add to it nevertheless."""
    made = plugin("body/go", {"direction": "response", "mode": "append", "text": "X"})
    made.app.respond(body=[b"ab", b""])
    assert (await made.get()).body == b"abX"


async def test_body_refuses_a_conf(plugin: Make) -> None:
    with pytest.raises(PluginStartError, match="no such mode"):
        await plugin("body/go", {"mode": "lower"}).start()


# --- local_reply, in AssemblyScript


@pytest.fixture
def replying(plugin: Make) -> Make:
    return lambda conf: plugin("local_reply/assemblyscript", conf, root_id="local_reply")


@pytest.mark.parametrize(
    ("phase", "callbacks"),
    [
        ("request_headers", ["request_headers", "response_headers", "response_body", "on_log 403"]),
        ("request_body", ["request_headers", "request_body", "response_headers", "response_body", "on_log 403"]),
        ("response_headers", ["request_headers", "request_body", "response_headers", "on_log 403"]),
        ("response_body", ["request_headers", "request_body", "response_headers", "response_body", "on_log 403"]),
    ],
)
async def test_local_reply(replying: Make, phase: str, callbacks: list[str]) -> None:
    """A reply to the request passes the plugin's own response callbacks; one that replaces a response does not."""
    made = replying({"phase": phase, "body": "no", "details": "because", "headers": {"x-why": "1"}})
    made.app.respond(body=b"app")
    exchange = await made.post(body=b"x")
    assert (exchange.status, exchange.body, exchange.headers["x-why"]) == (403, b"no", "1")
    assert exchange.headers["content-length"] == "2"
    lines = [line.text.partition("local_reply: ") for line in exchange.logs if line.level != "DEBUG"]
    assert [line for before, found, line in lines if found and not before] == callbacks


async def test_local_reply_to_a_grpc_request(replying: Make) -> None:
    made = replying({"body": "not you", "grpc_status": 7})
    exchange = await made.get(headers={"content-type": "application/grpc"})
    assert (exchange.status, exchange.body) == (200, b"")
    assert (exchange.headers["grpc-status"], exchange.headers["grpc-message"]) == ("7", "not you")


async def test_local_reply_aborts_on_a_bad_conf(replying: Make) -> None:
    with pytest.raises(PluginStartError, match="it trapped while starting"):
        await replying("{").start()


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
    plugin: Make, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read that is refused is no missing key: the count does not start again, and what is not kept is not told."""

    def refusing(*_: Any) -> Any:
        raise PortError("the store is away")

    made = plugin("counter/assemblyscript", root_id="counter")
    counts = [(await made.get()).headers["x-count"] for _ in range(2)]
    with monkeypatch.context() as away:
        away.setattr(MemorySharedData, refused, refusing)
        exchange = await made.get()
    assert (exchange.status, exchange.headers["x-count-user"]) == (200, "nobody")
    assert "x-count" not in exchange.headers
    counts.append((await made.get()).headers["x-count"])
    assert counts == ["1", "2", "3"]
    verb = "read" if refused == "get" else "written"
    assert f"counter: the count cannot be {verb}: status 10" in [line.text for line in exchange.logs]


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


async def test_trailers_that_the_app_sent(plugin: Make) -> None:
    made = plugin("trailers/c", "value")
    made.app.respond(body=b"app", trailers={"x-app": "1"})
    exchange = await made.get()
    assert (exchange.body, exchange.trailers) == (b"app", [(b"x-app", b"1"), (b"x-plugin-trailer", b"value")])


async def test_trailers_of_a_plugins_own_end_here(plugin: Make) -> None:
    """ASGI needs them announced with the head."""
    made = plugin("trailers/c", "value")
    made.app.respond(body=b"app")
    exchange = await made.get(extensions={"http.response.trailers": {}})
    assert (exchange.body, exchange.trailers, exchange.was_reset) == (b"app", [], False)


async def test_trailers_of_a_request_end_at_the_border(plugin: Make) -> None:
    """ASGI has none: the body ends where they would come."""
    exchange = await plugin("trailers/c").post(body=[b"ab", b"cd"])
    assert exchange.app is not None and exchange.app.body == b"abcd"


# --- root_id, in AssemblyScript by the older SDK


@pytest.mark.parametrize("root_id", ["first", "second"])
async def test_root_id(plugin: Make, root_id: str) -> None:
    assert (await plugin("root_id/assemblyscript", root_id=root_id).get()).headers["x-root-id"] == root_id


async def test_unknown_root_id(plugin: Make) -> None:
    with pytest.raises(PluginStartError, match="it trapped while starting"):
        await plugin("root_id/assemblyscript", root_id="third").start()


# --- all at once


async def test_plugins_of_every_sdk_in_one_chain(wasm_host: Callable[..., WasmHost]) -> None:
    """Rust, Go, AssemblyScript and C, each with a VM of its own, in one request."""

    async def mirror(scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive()).get("more_body", False):
            body += message["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body + message["body"]})

    plugins: list[dict[str, Any]] = [
        {"name": "headers", "file": PLUGINS / "headers/rust.wasm", "priority": 4},
        {"name": "body", "file": PLUGINS / "body/go.wasm", "priority": 3, "conf": json.dumps({"mode": "upper"})},
        {"name": "counter", "file": PLUGINS / "counter/assemblyscript.wasm", "priority": 2, "root_id": "counter"},
        {"name": "trailers", "file": PLUGINS / "trailers/c.wasm", "priority": 1},
    ]
    exchange = await wasm_host({"plugins": plugins}, app=mirror).post(body=[b"ab", b"cd"])
    assert exchange.body == b"ABCD"
    assert (exchange.headers["x-count"], exchange.headers["x-seen-status"]) == ("1", "200")
