"""The kit's host: several plugins, whole settings files, properties, and requests that are driven by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from asgi_wasm.testing import Reply, SyncWasmHost, SyncWasmPlugin, WasmPlugin
from tests.plugins.conftest import PLUGINS

Host = Callable[..., SyncWasmHost]
Make = Callable[..., SyncWasmPlugin]
HEADERS = {"name": "headers", "file": str(PLUGINS / "headers" / "rust.wasm"), "priority": 10}
FAULT = {"name": "fault", "file": str(PLUGINS / "fault_injection" / "c.wasm")}


def test_several_plugins(sync_wasm_host: Host) -> None:
    conf = {"request": {"set": {"x-a": "1"}}, "response": {"add": {"x-b": "2"}}}
    counter = {"name": "counter", "file": str(PLUGINS / "counter" / "assemblyscript.wasm"), "root_id": "counter"}
    host = sync_wasm_host({"plugins": [{**HEADERS, "conf": conf}, {**counter, "conf": "hits", "vm_id": "v"}]})
    exchange = host.get("/a")
    assert exchange.app is not None and exchange.app.headers["x-a"] == "1"
    assert (exchange.headers["x-b"], exchange.headers["x-count"]) == ("2", "1")
    assert host["headers"].calls and {call.plugin for call in host["headers"].calls} == {"headers"}
    assert host["counter"].metrics["hits.requests"] == 1 and not host["headers"].metrics
    assert host["counter"].shared_data and not host["headers"].shared_data
    assert [call.plugin for call in exchange.callbacks.named("on_request_headers")] == ["headers", "counter"]
    assert {line.plugin for line in host["counter"].logs} <= {"counter"}
    with pytest.raises(KeyError):
        host["none"]


def test_a_settings_file_with_routes_and_upstreams(sync_wasm_host: Host, tmp_path: Path) -> None:
    auth = {"name": "auth", "file": str(PLUGINS / "http_auth" / "rust.wasm")}
    settings = {
        "plugins": [{**FAULT, "priority": 20}, auth],
        "routes": [
            {"uri": "/blocked", "plugins": {"fault": {"conf": {"http_status": 418}}}},
            {"uri": "/api/*", "plugins": {"auth": {"conf": {"upstream": "auth"}}}},
        ],
        # Never called: the test plays it.
        "upstreams": {"auth": "http://192.0.2.1:9"},
    }
    file = tmp_path / "asgi-wasm.json.yaml"
    file.write_text(json.dumps(settings))
    host = sync_wasm_host(str(file))
    host.upstream("auth").respond(200, "bob")
    assert host.get("/blocked").status == 418
    assert host.get("/open").status == 200
    assert host.get("/api/x", headers={"x-user": "bob"}).status == 200
    assert [call.method for call in host.upstream("auth").calls] == ["POST"]
    host.stop()


def test_properties_of_a_request(sync_wasm_plugin: Make) -> None:
    """The probe reads and writes what its script says."""
    paths = ("request\\x00client_region", "source\\x00address", "own", "a\\x00b")
    script = "".join(f'request_headers: get_property "{path}"\n' for path in paths)
    probe = sync_wasm_plugin(PLUGINS / "probe" / "abi_0_2_1.wasm", script, properties={"request.client_region": "DE"})
    exchange = probe.get(properties={"source.address": b"192.0.2.1:5", "own": b"o", "a.b": 7})
    got = [call.returned.get("value") for call in exchange.calls.named("get_property")]
    assert got == [b"DE", b"192.0.2.1:5", b"o", (7).to_bytes(8, "little")]
    got = [call.returned.get("value") for call in probe.get().calls.named("get_property")]
    assert got == [b"DE", b"127.0.0.1:40000", None, None]


# --- callouts, matched as respx does

AUTH = {"upstream": "auth", "path": "/check?a=1&b=%20", "timeout_ms": 1000}


def test_patterns_of_requests(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(PLUGINS / "http_auth" / "rust.wasm", AUTH)
    auth = plugin.upstream("auth")
    auth.respond(403)
    by_query = auth.on(query={"b": " "}, body="query").respond(200, "by query")
    by_json = auth.on(json={"user": 1}).respond(200, json={"by": "json"})
    by_where = auth.on(where=lambda request: request.body == b"where").respond_with(
        lambda request: Reply(200, f"{request.method} {request.path}")
    )
    never = auth.on(query={"b": "other"}).respond(500)

    def answer(user: str) -> str:
        exchange = plugin.get(headers={"x-user": user})
        return exchange.app.headers["x-auth"] if exchange.app is not None else exchange.headers["x-auth-status"]

    assert answer("query") == "by query"
    assert answer('{"user": 1}') == '{"by": "json"}'
    assert answer("where") == "POST /check"
    assert answer("else") == "403"
    assert by_query.called and by_json.called and by_where.called and not never.called
    assert [call.body for call in by_json.calls] == [b'{"user": 1}']
    with pytest.raises(AssertionError, match=re.escape("query={'b': 'other'}")):
        auth.check_all_called()
    never.calls.append(by_json.calls[0])
    auth.check_all_called()


# --- by hand


async def test_a_request_message_by_message(wasm_plugin: Callable[..., WasmPlugin]) -> None:
    plugin = wasm_plugin(PLUGINS / "body" / "c.wasm", "change")
    connection = await plugin.connect("POST", "/", headers={"transfer-encoding": "chunked"})
    connection.feed(b"ab", more=True)
    connection.feed(b"cd")
    assert (await connection.over()).status == 200
    assert plugin.app.requests[0].body == b"AbCd"
    gone = await plugin.connect("POST", "/", headers={"transfer-encoding": "chunked"})
    gone.feed(b"ab", more=True)
    gone.hang_up()
    assert not (await gone.over()).is_started
    await plugin.stop()
