"""Examples for plugin authors: what the kit is for, over plugins in Rust, Go, AssemblyScript and C."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from asgi_wasm import PluginStartError
from asgi_wasm.testing import SyncWasmHost, SyncWasmPlugin
from tests.cli.running import ROOT
from tests.plugins.conftest import PLUGINS

Make = Callable[..., SyncWasmPlugin]


# --- a local response, in four languages


@pytest.mark.parametrize("language", ["rust", "go", "assemblyscript", "c"])
def test_fault_injection_answers_a_share_of_the_requests(sync_wasm_plugin: Make, language: str) -> None:
    file = PLUGINS / "fault_injection" / f"{language}.wasm"
    always = sync_wasm_plugin(file, {"http_status": 418, "body": "teapot"}, root_id="fault_injection")
    blocked = always.get("/tea", headers={"x-user": "eve"})
    assert (blocked.status, blocked.text) == (418, "teapot")
    assert blocked.app is None
    never = sync_wasm_plugin(file, {"http_status": 418, "percentage": 0}, root_id="fault_injection")
    assert never.get("/tea").status == 200


@pytest.mark.parametrize("language", ["rust", "go", "assemblyscript", "c"])
def test_fault_injection_refuses_a_wrong_conf(sync_wasm_plugin: Make, language: str) -> None:
    file = PLUGINS / "fault_injection" / f"{language}.wasm"
    with pytest.raises(PluginStartError, match="http_status"):
        sync_wasm_plugin(file, {"http_status": 1}, root_id="fault_injection").start()


# --- Rust: headers, a queue and its ticks, a callout (HTTP and gRPC)


def test_headers_of_request_and_response(sync_wasm_plugin: Make) -> None:
    conf = {"request": {"set": {"x-tenant": "acme"}}, "response": {"remove": ["server"]}}
    plugin = sync_wasm_plugin(PLUGINS / "headers" / "rust.wasm", conf)
    plugin.app.respond(200, "ok", {"server": "secret"})
    exchange = plugin.get("/")
    assert exchange.app is not None and exchange.app.headers["x-tenant"] == "acme"
    assert "server" not in exchange.headers


def test_work_that_is_done_by_ticks(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(PLUGINS / "queue" / "rust.wasm", {"tick_ms": 1000})
    plugin.advance(3)
    assert len(plugin.callbacks.named("on_tick")) == 3


def test_a_request_that_waits_for_an_upstream(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(PLUGINS / "http_auth" / "rust.wasm", {"upstream": "auth", "path": "/check"})
    auth = plugin.upstream("auth")
    auth.respond(403)
    auth.on("POST", "/check", body="bob").respond(200, "welcome")
    assert plugin.get("/", headers={"x-user": "bob"}).status == 200
    assert plugin.get("/", headers={"x-user": "eve"}).status == 403
    auth.time_out()
    assert plugin.get("/", headers={"x-user": "bob"}).headers["x-auth-status"] == "504"


def test_a_request_that_waits_for_a_grpc_service(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(PLUGINS / "grpc_auth" / "rust.wasm")
    plugin.upstream("auth").grpc.on("/test.Auth/Check").respond(b"bob@acme")
    exchange = plugin.get("/", headers={"x-user": "bob"})
    assert exchange.app is not None and exchange.app.headers["x-auth"] == "bob@acme"


# --- Go: bodies, piece by piece


def test_bodies_in_pieces(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(PLUGINS / "body" / "go.wasm", {"direction": "response", "mode": "upper"})
    plugin.app.respond(body=[b"one ", b"two"])
    assert plugin.get("/").chunks[:2] == [b"ONE ", b"TWO"]


# --- AssemblyScript: shared data, metrics and a property; several plugins at once


def test_counts_that_plugins_share(sync_wasm_host: Callable[..., SyncWasmHost]) -> None:
    one = {"file": str(PLUGINS / "counter" / "assemblyscript.wasm"), "root_id": "counter", "vm_id": "counts"}
    host = sync_wasm_host(
        {"plugins": [{**one, "name": "a", "conf": "hits", "priority": 2}, {**one, "name": "b", "conf": "hits"}]}
    )
    host["a"].shared_data[b"hits:/a"] = b"40"
    host.get("/")
    assert host["a"].metrics["hits.requests"] == host["b"].metrics["hits.requests"] == 1
    assert host["a"].shared_data == host["b"].shared_data


# --- C: trailers of a response


def test_trailers(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(PLUGINS / "trailers" / "c.wasm", "response")
    plugin.app.respond(200, "body", trailers={"x-sum": "1"})
    exchange = plugin.get("/")
    assert exchange.callbacks.named("on_response_trailers")
    assert dict(exchange.trailers)[b"x-sum"] == b"1" and dict(exchange.trailers)[b"x-plugin-trailer"] == b"response"


# --- what is said of the Go SDK's emulator

_EMULATOR = """
StartVM StartPlugin FinishVM GetCalloutAttributesFromContext CallOnHttpCallResponse GetCounterMetric GetGaugeMetric
GetHistogramMetric GetTraceLogs GetDebugLogs GetInfoLogs GetWarnLogs GetErrorLogs GetCriticalLogs GetTickPeriod Tick
GetQueueSize RegisterForeignFunction InitializeConnection CallOnUpstreamData CallOnDownstreamData
CloseUpstreamConnection CloseDownstreamConnection CompleteConnection InitializeHttpContext CallOnResponseHeaders
CallOnResponseBody CallOnResponseTrailers CallOnRequestHeaders CallOnRequestTrailers CallOnRequestBody
CompleteHttpContext GetCurrentHttpStreamAction GetCurrentRequestHeaders GetCurrentResponseHeaders
GetCurrentRequestBody GetCurrentResponseBody GetSentLocalResponse GetProperty SetProperty NewHostEmulator
NewWasmVMContext GetPropertyMap
WithVMContext WithPluginContext WithHttpContext WithTcpContext WithPluginConfiguration WithVMConfiguration WithProperty
"""


def test_every_call_of_the_go_sdks_emulator_is_in_the_table() -> None:
    paper = (ROOT / "asgi_wasm" / "testing" / "README.md").read_text(encoding="utf-8")
    rows = "".join(line for line in paper.splitlines(keepends=True) if line.startswith("|"))
    assert set(_EMULATOR.split()) <= set(re.findall(r"`(\w+)`", rows))


def test_every_name_of_the_table_is_ours(sync_wasm_plugin: Make) -> None:
    plugin: Any = sync_wasm_plugin(PLUGINS / "headers" / "rust.wasm")
    for name in (
        "request",
        "begin",
        "start",
        "stop",
        "advance",
        "upstream",
        "metrics",
        "shared_data",
        "queues",
        "logs",
        "calls",
    ):
        assert hasattr(plugin, name), name
