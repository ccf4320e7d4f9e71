"""What the kit has for the ends of things: pauses, WebSockets, connections by hand, queues, trailers of answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.testing import (
    Action,
    Guest,
    Hostcalls,
    MapType,
    NotAnsweredError,
    SyncWasmPlugin,
    WasmPlugin,
)
from tests.plugins.conftest import PLUGINS

Make = Callable[..., SyncWasmPlugin]


# --- time


def test_a_pause_ends_by_the_tests_clock(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(Guest(on_request_headers=lambda *_: Action.PAUSE), settings={"pause_timeout": 5})
    pending = plugin.begin("GET")
    plugin.advance(4.999)
    assert not pending.done
    plugin.advance(0.001)
    exchange = pending.result()
    assert (exchange.status, exchange.app) == (504, None)
    assert [line.text for line in exchange.logs] == ["paused a stream for 5 s: it is answered 504"]


def test_a_pause_that_a_client_drips_into_ends_too(sync_wasm_plugin: Make) -> None:
    """Each piece renews it, ten times its length in all."""
    plugin = sync_wasm_plugin(Guest(on_request_body=lambda *_: Action.PAUSE), settings={"pause_timeout": 1})
    connection = plugin.connect("POST", headers={"transfer-encoding": "chunked"})
    for _ in range(13):
        assert not connection.response.is_started
        connection.feed(b"x", more=True)
        plugin.advance(0.75)
    plugin.advance(0.25)
    assert connection.response.status == 504
    connection.hang_up()
    assert connection.over().is_whole and connection.done


def test_an_app_that_does_not_answer_is_no_plugins_pause(
    sync_wasm_plugin: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    monkeypatch.setattr("asgi_wasm.testing.hosted._PATIENCE", 0.05)
    with pytest.raises(NotAnsweredError, match="no plugin has paused it; the app does not answer"):
        sync_wasm_plugin(Guest(), app=app).get()


# --- WebSockets


def greet(host: Hostcalls, *_: int) -> Action:
    host.add_header_map_value(MapType.HTTP_RESPONSE_HEADERS, b"x-plugin", b"1")
    return Action.CONTINUE


def test_a_websocket_that_is_accepted(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(Guest(on_response_headers=greet))
    plugin.app.respond(headers={"x-app": "yes"})
    exchange = plugin.websocket("/chat?room=1", headers={"x-user": "bob"}, subprotocols=["chat"])
    assert (exchange.status, exchange.headers["x-plugin"], exchange.headers["x-app"]) == (101, "1", "yes")
    assert exchange.app is not None and exchange.app.headers["sec-websocket-protocol"] == "chat"
    assert (exchange.app.method, exchange.app.target, exchange.app.scheme) == ("GET", "/chat?room=1", "ws")
    assert not exchange.was_reset


def test_a_websocket_that_the_app_denies(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(Guest(on_response_headers=greet))
    plugin.app.respond(401, "who?")
    exchange = plugin.websocket()
    assert (exchange.status, exchange.text, exchange.headers["x-plugin"]) == (401, "who?", "1")


def test_a_websocket_that_a_plugin_denies(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(PLUGINS / "fault_injection" / "rust.wasm", {"http_status": 418, "body": "teapot"})
    exchange = plugin.websocket()
    assert (exchange.status, exchange.text, exchange.app) == (418, "teapot", None)


async def test_a_websocket_of_an_app_of_the_tests_own(wasm_plugin: Callable[..., WasmPlugin]) -> None:
    async def choosing(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0]})
        await send({"type": "websocket.send", "text": "hello"})
        assert (await receive())["type"] == "websocket.disconnect"

    async def closing(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 1008})

    plugin = wasm_plugin(Guest(), app=choosing)
    exchange = await plugin.websocket(subprotocols=["b", "a"])
    assert (exchange.status, exchange.headers["sec-websocket-protocol"]) == (101, "b")
    assert (await wasm_plugin(Guest(), app=closing).websocket()).status == 403


async def test_a_websocket_that_nothing_answers(wasm_plugin: Callable[..., WasmPlugin]) -> None:
    with pytest.raises(NotAnsweredError, match="nothing can answer it: plugin 'guest' paused it in on_request_headers"):
        await wasm_plugin(Guest(on_request_headers=lambda *_: Action.PAUSE)).websocket()


# --- a request by hand, in a test without asyncio


def test_a_request_message_by_message(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(PLUGINS / "body" / "c.wasm", "change")
    connection = plugin.connect("POST", headers={"transfer-encoding": "chunked"}, properties={"own": b"1"})
    connection.feed(b"ab", more=True)
    assert plugin.app.requests[0].body == b"Ab" and not connection.done
    connection.feed(b"cd")
    assert connection.over().status == 200 and plugin.app.requests[0].body == b"AbCd"
    gone = plugin.connect("POST", headers={"transfer-encoding": "chunked"})
    gone.hang_up()
    assert not gone.over().is_started


# --- queues, settings, trailers of an answer


def test_what_waits_in_a_queue(sync_wasm_plugin: Make) -> None:
    def fill(host: Hostcalls, *_: int) -> bool:
        token = host.register_shared_queue(b"jobs")
        host.enqueue_shared_queue(token, b"one")
        host.enqueue_shared_queue(token, b"two")
        return True

    plugin = sync_wasm_plugin(Guest(on_configure=fill), vm_id="v")
    plugin.start()
    assert plugin.queues == {b"jobs": [b"one", b"two"]}


async def test_settings_of_the_host(wasm_plugin: Callable[..., WasmPlugin]) -> None:
    def hold(_: Hostcalls, __: int, ___: int, is_last: int) -> Action:
        return Action.CONTINUE if is_last else Action.PAUSE

    plugin = wasm_plugin(Guest(on_request_body=hold), settings={"limits": {"request_body": 3}})
    assert (await plugin.post(body=[b"ab", b"cd"])).status == 413
    assert (await plugin.post(body=[b"ab", b"c"])).status == 200


def test_trailers_of_an_answer(sync_wasm_plugin: Make) -> None:
    seen: list[Any] = []
    pairs = encode_pairs([(b":method", b"GET"), (b":path", b"/"), (b":authority", b"auth")])

    def ask(host: Hostcalls, *_: int) -> Action:
        host.call("http_call", b"auth", pairs, b"", encode_pairs([]), 1000)
        return Action.PAUSE

    def answered(host: Hostcalls, _: int, __: int, headers: int, body: int, trailers: int) -> None:
        seen.append((trailers, host.get_header_map_value(MapType.HTTP_CALL_RESPONSE_TRAILERS, b"x-sum")))

    plugin = sync_wasm_plugin(Guest(on_request_headers=ask, on_http_call_response=answered))
    plugin.upstream("auth").respond(200, "body", trailers={"x-sum": "7"})
    pending = plugin.begin("GET")
    plugin.advance(0)
    assert seen == [(1, b"7")]
    plugin.advance(3600)
    assert pending.result().status == 504


@pytest.mark.parametrize(("after", "status"), [(0.999, "200"), (1.001, "504")])
def test_an_answer_that_takes_its_time(sync_wasm_plugin: Make, after: float, status: str) -> None:
    plugin = sync_wasm_plugin(PLUGINS / "http_auth" / "rust.wasm", {"upstream": "auth", "timeout_ms": 1000})
    plugin.upstream("auth").respond(200, "ok", after=after)
    pending = plugin.begin("GET", headers={"x-user": "bob"})
    plugin.advance(0.998)
    assert not pending.done
    plugin.advance(0.002)
    exchange = pending.result()
    assert exchange.headers.get("x-auth-status", "200") == status
