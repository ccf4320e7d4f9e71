"""gRPC services that a test plays, called by a real plugin."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from asgi_wasm.testing import SyncWasmPlugin, UnexpectedCallError, WasmPlugin
from tests.plugins.conftest import PLUGINS

Make = Callable[..., SyncWasmPlugin]
CONF = {"timeout_ms": 1000}
FILE = PLUGINS / "grpc_auth" / "rust.wasm"


def test_a_call_that_is_answered(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(FILE, CONF)
    grpc = plugin.upstream("auth").grpc
    grpc.fail()
    check = grpc.on("/test.Auth/Check").respond(b"first").respond(b"second")
    grpc.on("Other").respond(b"never")
    first, second = plugin.get(headers={"x-user": "bob"}), plugin.get(headers={"x-user": "bob"})
    assert first.app is not None and first.app.headers["x-auth"] == "first"
    assert second.app is not None and second.app.headers["x-auth"] == "second"
    (call, _) = check.calls
    assert (call.path, call.messages, call.is_call, call.is_over) == ("/test.Auth/Check", [b"bob"], True, True)
    assert call.timeout == 1.0


@pytest.mark.parametrize(
    ("happens", "status"), [("fail", "14"), ("time_out", "14"), ("respond", "7")], ids=["fail", "time out", "status"]
)
def test_a_call_that_fails(sync_wasm_plugin: Make, happens: str, status: str) -> None:
    plugin = sync_wasm_plugin(FILE, CONF)
    grpc = plugin.upstream("auth").grpc
    if happens == "respond":
        grpc.respond(status=7, message="not you")
    else:
        getattr(grpc, happens)()
    exchange = plugin.get(headers={"x-user": "bob"})
    assert (exchange.status, exchange.headers["x-auth-status"]) == (403, status)
    if happens == "respond":
        assert any("not you" in line.text for line in exchange.logs)


def test_a_call_that_hangs_until_its_timeout(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(FILE, CONF)
    plugin.upstream("auth").grpc.hang()
    pending = plugin.begin("GET", headers={"x-user": "bob"})
    plugin.advance(0.999)
    assert not pending.done
    plugin.advance(0.002)
    assert pending.result().status == 403


def test_a_stream(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(FILE, {**CONF, "stream": True})
    grpc = plugin.upstream("auth").grpc
    grpc.hang()
    pending = plugin.begin("GET", headers={"x-user": "bob"})
    (stream,) = grpc.calls
    assert (stream.is_call, stream.messages, stream.is_closed) == (False, [b"bob"], True)
    stream.begin({"x-realm": "inner"})
    stream.send(b"one", b"two")
    plugin.advance(0)
    assert not pending.done
    stream.end()
    exchange = pending.result()
    assert exchange.app is not None and "one" in exchange.app.headers["x-auth"]
    assert any("realm inner" in line.text for line in plugin.logs)


def test_a_stream_that_is_broken_off(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(FILE, {**CONF, "stream": True})
    plugin.upstream("auth").grpc.on().reset()
    assert plugin.get(headers={"x-user": "bob"}).status == 403


def test_a_call_that_the_test_does_not_expect(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(FILE, CONF)
    plugin.upstream("auth").grpc.on("Other").respond()
    with pytest.raises(UnexpectedCallError, match=r"called gRPC /test\.Auth/Check of the upstream 'auth'"):
        plugin.get(headers={"x-user": "bob"})


async def test_an_upstream_that_is_named_later(wasm_plugin: Callable[..., WasmPlugin]) -> None:
    plugin = wasm_plugin(FILE, CONF)
    assert (await plugin.get(headers={"x-user": "bob"})).app is None
    plugin.upstream("auth").grpc.respond(b"ok")
    assert (await plugin.get(headers={"x-user": "bob"})).status == 200
    await plugin.stop()
