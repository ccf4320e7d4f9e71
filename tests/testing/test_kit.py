"""The kit for plugin authors, with real plugins of every language."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings

from asgi_wasm import PluginStartError
from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.testing import NotAnsweredError, SyncWasmPlugin, UnexpectedCallError, WasmPlugin, strategies
from tests.plugins.conftest import PLUGINS

Make = Callable[..., SyncWasmPlugin]
FAULT = {"http_status": 418, "body": "no", "percentage": 100}


@pytest.fixture
def plugin(sync_wasm_plugin: Make) -> Make:
    return lambda name, conf=None, **options: sync_wasm_plugin(PLUGINS / f"{name}.wasm", conf, **options)


@pytest.mark.parametrize("language", ["rust", "go", "assemblyscript", "c"])
def test_a_plugin_of_each_language_answers(plugin: Make, language: str) -> None:
    answered = plugin(f"fault_injection/{language}", FAULT, root_id="fault_injection").get("/x?y")
    assert (answered.status, answered.text, answered.app) == (418, "no", None)
    assert answered.headers["x-wasm-plugin"] == f"fault_injection/{language}"
    (reply,) = answered.calls.named("send_local_response")
    assert dict(reply.arguments)["status_code"] == 418
    assert (reply.given["body"], reply.answer) == (b"no", "OK")
    assert "request_headers" in [name.removeprefix("on_") for name in answered.callbacks.names]


def test_the_plugin_that_the_package_brings(sync_wasm_plugin: Make) -> None:
    """Its name, as that of an image, has characters that no plugin's name may have."""
    plugin = sync_wasm_plugin("asgi_wasm:fault_injection", FAULT)
    assert (plugin.get("/").status, plugin.name) == (418, "fault_injection")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (f"oci://registry.test/you/waf:1.0@sha256:{'0' * 64}", "waf"),
        (f"https://some.test/a/waf.wasm#sha256={'0' * 64}", "waf"),
        ("my plugin.v1.wasm", "my_plugin.v1"),
    ],
)
def test_a_plugins_name_from_its_file(file: str, name: str) -> None:
    plugin = SyncWasmPlugin(file)
    assert plugin.name == name
    plugin.close()


def test_what_the_app_saw_and_what_the_client_got(plugin: Make) -> None:
    changing = plugin(
        "headers/rust",
        {"request": {"remove": ["a"], "set": {"b": "1"}}, "response": {"add": {"c": "2"}}, "path": "/new?q=ü"},
    )
    changing.app.respond(201, "made", {"x-app": "yes"})
    exchange = changing.post("/old", "body", headers={"A": "x", "B": "y"})
    assert exchange.app is not None
    assert (exchange.app.method, exchange.app.path, exchange.app.body) == ("POST", "/new", b"body")
    assert "a" not in exchange.app.headers and exchange.app.headers["b"] == "1"
    assert (exchange.status, exchange.text, exchange.headers["c"], exchange.headers["x-app"]) == (
        201,
        "made",
        "2",
        "yes",
    )
    assert exchange.head.splitlines()[:2] == ["201", "c: 2"]
    assert exchange.app.head.startswith("POST /new?q=")


def test_bodies_piece_by_piece(plugin: Make) -> None:
    upper = plugin("body/go", {"direction": "both", "mode": "upper"})
    upper.app.respond(body=[b"one", b"two"])
    exchange = upper.post("/", [b"a", b"b"])
    assert exchange.app is not None and exchange.app.body == b"AB"
    assert exchange.chunks[:2] == [b"ONE", b"TWO"]


def test_an_app_of_the_tests_own(plugin: Make) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body[::-1]})

    exchange = plugin("headers/rust", app=app).post("/", "abc")
    assert exchange.body == b"cba"
    assert exchange.app is not None and exchange.app.body == b"abc"


# --- upstreams

AUTH = {"upstream": "auth", "path": "/check", "timeout_ms": 1000}


def test_an_upstream_that_answers(plugin: Make) -> None:
    guarded = plugin("http_auth/rust", AUTH)
    auth = guarded.upstream("auth")
    auth.respond(403)
    auth.on("POST", "/check", headers={"x-user": "eve"}).respond(200, "evil")
    auth.on(target=re.compile(r"/ch.*")).respond(200, "first").respond(500)
    exchange = guarded.get(headers={"x-user": "bob"})
    assert exchange.app is not None and exchange.app.headers["x-auth"] == "first"
    assert guarded.get(headers={"x-user": "bob"}).headers["x-auth-status"] == "500"
    assert guarded.get(headers={"x-user": "bob"}).headers["x-auth-status"] == "500"
    assert [call.body for call in auth.calls] == [b"bob"] * 3
    assert auth.calls[0].head.startswith("POST /check\n")
    assert exchange.calls.named("http_call")[0].given["upstream"] == b"auth"


@pytest.mark.parametrize(("happens", "status"), [("fail", "503"), ("time_out", "504")])
def test_an_upstream_that_does_not(plugin: Make, happens: str, status: str) -> None:
    guarded = plugin("http_auth/rust", AUTH)
    getattr(guarded.upstream("auth"), happens)()
    exchange = guarded.get(headers={"x-user": "bob"})
    assert exchange.app is None
    assert exchange.headers["x-auth-status"] == status


@pytest.mark.parametrize("others", [False, True])
def test_a_call_that_the_test_does_not_expect(plugin: Make, others: bool) -> None:
    guarded = plugin("http_auth/rust", AUTH)
    auth = guarded.upstream("auth")
    if others:
        auth.on("GET").respond(200)
    with pytest.raises(UnexpectedCallError, match="called POST /check of the upstream 'auth'"):
        guarded.get(headers={"x-user": "bob"})
    auth.respond(200)
    assert guarded.get(headers={"x-user": "bob"}).status == 200


def test_an_answer_that_is_cut(plugin: Make) -> None:
    guarded = plugin("http_auth/rust", AUTH)
    guarded.upstream("auth").on().cut()
    assert guarded.get(headers={"x-user": "bob"}).status == 502


def test_a_call_that_hangs_until_its_timeout(plugin: Make) -> None:
    guarded = plugin("http_auth/rust", AUTH)
    guarded.upstream("auth").hang()
    pending = guarded.begin("GET", headers={"x-user": "bob"})
    guarded.advance(0.999)
    assert not pending.done
    guarded.advance(0.002)
    assert pending.result().headers["x-auth-status"] == "504"


def test_an_upstream_that_nobody_named(plugin: Make) -> None:
    guarded = plugin("http_auth/rust", AUTH)
    exchange = guarded.get(headers={"x-user": "bob"})
    assert exchange.calls.named("proxy_http_call")[0].answer == "BAD_ARGUMENT"
    (told,) = [line.text for line in exchange.logs if line.by_host]
    assert "'auth', which the settings do not name" in told and "a test plays it by plugin.upstream('auth')" in told
    guarded.upstream("auth").respond(200, "now")
    assert guarded.get(headers={"x-user": "bob"}).status == 200


def test_a_pause_that_nothing_ends(plugin: Make) -> None:
    guarded = plugin("http_auth/rust", AUTH)
    guarded.upstream("auth").hang()
    with pytest.raises(
        NotAnsweredError, match=r"^nothing can answer it: plugin 'rust' paused it in .*`advance` the clock"
    ):
        guarded.get(headers={"x-user": "bob"})


# --- time, state, log


def test_ticks_come_as_the_clock_moves(plugin: Make) -> None:
    ticking = plugin("queue/rust", {"tick_ms": 50})
    ticking.start()
    assert not [line for line in ticking.logs if "tick" in line.text]
    ticking.advance(0.049)
    assert not [line for line in ticking.logs if "tick" in line.text]
    ticking.advance(0.2)
    assert len([line for line in ticking.logs if "tick" in line.text]) == 4
    assert ticking.callbacks.named("on_tick")


def test_queues(plugin: Make) -> None:
    exchange = plugin("queue/rust").get("/some")
    assert "queue: dequeued /some" in [line.text for line in exchange.logs]


def test_shared_data_and_metrics(plugin: Make) -> None:
    counting = plugin("counter/assemblyscript", "hits", root_id="counter")
    counting.shared_data[b"hits:/a"] = b"41"
    assert [counting.get("/b").headers["x-count"] for _ in range(2)] == ["1", "2"]
    assert len(counting.shared_data) == 2 and b"hits:/a" in counting.shared_data
    assert counting.metrics["hits.requests"] == 2
    assert counting.metrics["hits.path_length"] == (2, 4)
    with pytest.raises(TypeError, match="no way to remove"):
        del counting.shared_data[b"hits:/a"]
    with pytest.raises(KeyError, match=r"no 'none' .there are: .*hits:/a"):
        counting.shared_data["none"]
    with pytest.raises(KeyError, match=r"no 'nope' .there are: .*'hits.requests'"):
        counting.metrics["nope"]
    counting.shared_data["hits:/b"] = "7"
    assert counting.shared_data["hits:/b"] == counting.shared_data[b"hits:/b"] == b"7"


def test_a_plugin_that_refuses_its_conf(plugin: Make) -> None:
    refusing = plugin("fault_injection/rust", {"http_status": 1})
    with pytest.raises(PluginStartError, match="http_status is not an integer from 200 to 599"):
        refusing.get()
    assert str(refusing.logs[0]).startswith("ERROR    fault_injection: http_status")


def test_the_level_of_the_log(plugin: Make) -> None:
    assert [line.level for line in plugin("queue/rust", log_level="error").get().logs] == []


def test_the_trace_is_readable(plugin: Make) -> None:
    text = str(plugin("fault_injection/rust", FAULT).get("/x").trace)
    assert re.search(r"^rust #\d+ on_request_headers\(.*end_of_stream=1\) = PAUSE  [\d.]+ [µm]s$", text, re.MULTILINE)
    assert re.search(r"^  send_local_response\(status_code=418, .*body=no.*\) = OK  ", text, re.MULTILINE)
    assert "malloc" not in text and "memory_allocate" not in text


def test_the_plugin_ends(plugin: Make) -> None:
    made = plugin("lifecycle/abi_0_2_1")
    made.get()
    made.stop()
    assert "on_delete(1)" in [line.text for line in made.logs]
    made.close()
    made.close()


async def test_the_asynchronous_twin(wasm_plugin: Callable[..., WasmPlugin]) -> None:
    guarded = wasm_plugin(PLUGINS / "http_auth" / "rust.wasm", json.dumps(AUTH))
    guarded.upstream("auth").hang()
    await guarded.start()
    pending = guarded.begin("GET", headers={"x-user": "bob"})
    await guarded.advance(1)
    assert (await pending).status == 403
    guarded.upstream("auth").respond(200, "ok")
    assert (await guarded.get(headers={"x-user": "bob"})).status == 200
    assert (await guarded.post(body="x", headers={"x-user": "bob"})).status == 200
    assert (await guarded.request("PUT", headers=[(b"x-user", b"bob")])).status == 200
    await guarded.stop()


def test_foreign_functions(plugin: Make) -> None:
    def lookup(arguments: bytes) -> bytes:
        return arguments.upper()

    made: Any = plugin("headers/rust", foreign_functions={"lookup": lookup})
    assert made.get().status == 200


def test_drawn_requests(plugin: Make) -> None:
    passing = plugin("headers/rust", cache_dir=None)

    @settings(max_examples=60, deadline=None, database=None)
    @given(strategies.requests())
    def every(request: dict[str, Any]) -> None:
        exchange = passing.request(**request)
        assert exchange.app is not None
        assert exchange.app.body == b"".join(request["body"])
        assert exchange.app.method == request["method"]
        assert int(exchange.app.headers["x-seen-count"]) >= len({name.lower() for name, _ in request["headers"]})

    every()
