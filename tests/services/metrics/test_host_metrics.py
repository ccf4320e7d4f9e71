"""What the host counts, with real plugins."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
import wasmtime

from asgi_wasm import EngineUnavailableError, WasmMiddleware
from asgi_wasm.asgi.properties import ScopeAttributes
from asgi_wasm.asgi.sides import RequestSide, ResponseSide
from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from asgi_wasm.host.host_metrics import NO_HOST_METRICS
from asgi_wasm.host.streams.filter_chain import FilterChain
from asgi_wasm.host.vm.watching import watched
from asgi_wasm.limits import StreamLimits
from asgi_wasm.services.clock import SystemClock
from asgi_wasm.services.log import StandardLog
from asgi_wasm.services.metrics.host import PrometheusHostMetrics
from asgi_wasm.services.metrics.registry import COUNTER, MetricRegistry
from tests.driving import answering, http_scope, request
from tests.papers.blocks import OPERATIONS
from tests.plugins.conftest import PLUGINS
from tests.plugins.test_http_auth import OK
from tests.services.metrics.scraping import Scrape, scrape
from tests.serving import free_port
from tests.upstreams import upstream

# Per request header: "t" traps, "g" grows memory by a page, "c" closes the stream.
WAT = """(module
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "tgc")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func $has (param i32) (result i32)
    (i32.eqz (call $get (i32.const 0) (local.get 0) (i32.const 1) (i32.const 0) (i32.const 4))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (if (call $has (i32.const 100)) (then unreachable))
    (if (call $has (i32.const 101)) (then (drop (memory.grow (i32.const 1)))))
    (if (call $has (i32.const 102)) (then (drop (call $close (i32.const 0)))))
    (i32.const 0)))"""
PAGE = 65536
# Defines a metric of each type under the name in its conf, and records 3; any status but OK fails the start.
DEFINING = """(module
  (import "env" "proxy_get_buffer_bytes" (func $conf (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_record_metric" (func $record (param i32 i64) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func $both (param $type i32) (result i32)
    (i32.or
      (call $define (local.get $type) (i32.load (i32.const 0)) (i32.load (i32.const 4)) (i32.const 8))
      (call $record (i32.load (i32.const 8)) (i64.const 3))))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $conf (i32.const 7) (i32.const 0) (local.get 1) (i32.const 0) (i32.const 4)))
    (i32.eqz (i32.or (call $both (i32.const 0)) (i32.or (call $both (i32.const 1)) (call $both (i32.const 2)))))))"""


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    file = tmp_path / "probe.wasm"
    file.write_bytes(wasmtime.wat2wasm(WAT))
    return file


def wrapped(app: ASGIApp, *plugins: dict[str, Any], metrics: Any = True, **settings: Any) -> WasmMiddleware:
    return WasmMiddleware(app, settings={"plugins": list(plugins), "metrics": metrics, "routes": [], **settings})


def plugin(name: str, file: str | Path, **more: Any) -> dict[str, Any]:
    return {"name": name, "file": PLUGINS / file, **more}


def actions(found: Scrape, name: str) -> dict[tuple[str, str], float]:
    """(callback, action) -> how often, of one plugin."""
    result = {}
    for labels, value in found.all("asgi_wasm_actions_total").items():
        by_name = dict(labels)
        if by_name["plugin"] == name:
            result[by_name["callback"], by_name["action"]] = value
    return result


async def test_counter_plugin() -> None:
    app = wrapped(answering(b"app"), plugin("counter", "counter/assemblyscript.wasm", conf="c"))
    await app.start()
    for _ in range(3):
        assert (await request(app)).body == b"app"
    found = await scrape(openmetrics=True)
    assert found.get("c_requests_total", plugin="counter") == 3
    assert found.get("c_in_flight", plugin="counter") == 0
    assert found.get("c_path_length_count", plugin="counter") == 3
    assert found.get("asgi_wasm_requests_total", answered_by="app") == 3
    assert found.get("asgi_wasm_vm_starts_total", plugin="counter") == 1
    assert actions(found, "counter") == {
        ("on_request_headers", "continue"): 3,
        ("on_response_headers", "continue"): 3,
        ("on_response_body", "continue"): 3,
    }
    for callback, count in (("on_context_create", 4), ("on_configure", 1), ("on_log", 3), ("on_delete", 3)):
        labels = {"plugin": "counter", "callback": callback}
        assert found.get("asgi_wasm_callback_seconds_count", **labels) == count
    seconds = found.get("asgi_wasm_callback_seconds_sum", plugin="counter", callback="on_request_headers")
    assert seconds is not None and 0 < seconds < 10
    memory = found.get("asgi_wasm_vm_memory_bytes", plugin="counter")
    assert memory is not None and memory >= PAGE and memory % PAGE == 0
    await app.stop()


async def test_pause_and_resume_and_local_response() -> None:
    app = wrapped(
        answering(b"app"),
        plugin("outer", "lifecycle/abi_0_2_1.wasm"),
        plugin("inner", "lifecycle/abi_0_2_0.wasm"),
    )
    await app.start()
    await request(app, headers=[(b"x-lifecycle", b"pause")])
    found = await scrape()
    for name in ("outer", "inner"):
        counted = actions(found, name)
        assert counted["on_request_headers", "pause"] == 1
        assert counted["on_tick", "resume"] == 1
    await request(app, headers=[(b"x-lifecycle", b"reply")])
    found = await scrape()
    # What the callback returned beside its answer counts for nothing.
    assert actions(found, "outer")["on_request_headers", "local_response"] == 1
    assert actions(found, "outer")["on_request_headers", "pause"] == 1
    assert ("on_request_headers", "local_response") not in actions(found, "inner")
    assert found.get("asgi_wasm_requests_total", answered_by="plugin") == 1
    await app.stop()


@pytest.mark.parametrize(("policy", "answered_by", "status"), [("fail_closed", "host", 503), ("fail_open", "app", 200)])
async def test_trap(probe: Path, policy: str, answered_by: str, status: int) -> None:
    app = wrapped(answering(b"app"), plugin("probe", probe, failure_policy=policy))
    await app.start()
    assert (await request(app, headers=[(b"t", b"")])).status == status
    found = await scrape()
    assert found.get("asgi_wasm_traps_total", plugin="probe") == 1
    assert found.get("asgi_wasm_failures_total", plugin="probe", policy=policy) == 1
    assert found.get("asgi_wasm_requests_total", answered_by=answered_by) == 1
    # The callback that trapped took its time too, and decided nothing.
    labels = {"plugin": "probe", "callback": "on_request_headers"}
    assert found.get("asgi_wasm_callback_seconds_count", **labels) == 1
    assert actions(found, "probe") == {}
    assert found.get("asgi_wasm_vm_memory_bytes", plugin="probe") == 0
    await request(app)
    found = await scrape()
    assert found.get("asgi_wasm_vm_starts_total", plugin="probe") == 2
    assert found.get("asgi_wasm_vm_memory_bytes", plugin="probe") == PAGE
    await app.stop()


async def test_memory_as_it_is_at_the_scrape(probe: Path) -> None:
    app = wrapped(answering(b"app"), plugin("probe", probe))
    await app.start()
    assert (await scrape()).get("asgi_wasm_vm_memory_bytes", plugin="probe") == PAGE
    await request(app, headers=[(b"g", b"")])
    assert (await scrape()).get("asgi_wasm_vm_memory_bytes", plugin="probe") == 2 * PAGE
    await app.stop()
    assert (await scrape()).all("asgi_wasm_vm_memory_bytes") == {}


@pytest.mark.parametrize(("period", "pages"), [(-1, 2), (10**12, 1)], ids=["after-a-while", "at-once"])
async def test_memory_without_a_scrape(
    probe: Path, store: MetricRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, period: int, pages: int
) -> None:
    """In multi-process mode another process answers the scrape: it finds what was measured while requests ended."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr("asgi_wasm.services.metrics.host._MEMORY_PERIOD", period)

    app = wrapped(answering(b"app"), plugin("probe", probe))
    await app.start()
    await request(app, headers=[(b"g", b"")])
    (memory,) = [family for family in store.collect() if family.name == "asgi_wasm_vm_memory_bytes"]
    assert [sample.value for sample in memory.samples] == [pages * PAGE]
    await app.stop()


async def test_answered_by_nobody(probe: Path) -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("the app's")

    app = wrapped(fails, plugin("probe", probe))
    await app.start()
    with pytest.raises(ValueError, match="the app's"):
        await request(app)
    await asyncio.wait_for(app(http_scope(headers=[(b"c", b"")]), nothing, unheard), 60)
    found = await scrape()
    assert found.get("asgi_wasm_requests_total", answered_by="nobody") == 2
    assert actions(found, "probe") == {
        ("on_request_headers", "continue"): 1,
        ("on_request_headers", "reset"): 1,
    }
    await app.stop()


async def test_a_request_ends_once(store: MetricRegistry) -> None:
    host_metrics = PrometheusHostMetrics(store, SystemClock())
    sides = RequestSide(lambda: None, lambda _: None), ResponseSide("GET", lambda: None, lambda _: None, trailers=False)
    chain = FilterChain([], *sides, ScopeAttributes(http_scope()), StreamLimits(), StandardLog(), host_metrics)
    chain.finish()
    chain.finish()
    host_metrics.close()
    assert (await scrape()).get("asgi_wasm_requests_total", answered_by="nobody") == 1


async def nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def unheard(message: Message) -> None:
    raise AssertionError("the stream is closed")


async def test_websocket_handshake(probe: Path) -> None:
    async def accepts(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    async def send(message: Message) -> None:
        sent.append(message["type"])

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    sent: list[str] = []
    app = wrapped(accepts, plugin("probe", probe))
    await app.start()
    await app({**http_scope(), "type": "websocket", "subprotocols": []}, receive, send)
    assert sent == ["websocket.accept"]
    assert (await scrape()).get("asgi_wasm_requests_total", answered_by="app") == 1
    await app.stop()


async def test_callouts() -> None:
    def answer(line: bytes, headers: dict[bytes, bytes], body: bytes) -> bytes | None:
        return {b"slow": None, b"broken": OK[:15]}.get(body, OK)

    async with upstream(answer) as port:
        for where, timeout_ms, users in (
            (port, 60_000, (b"ok", b"ok", b"broken")),
            (port, 300, (b"slow",)),
            (free_port(), 60_000, (b"ok",)),
        ):
            entry = plugin("http_auth", "http_auth/rust.wasm", conf={"timeout_ms": timeout_ms})
            app = wrapped(answering(b"app"), entry, upstreams={"auth": f"http://127.0.0.1:{where}"})
            await app.start()
            for user in users:
                await request(app, headers=[(b"x-user", user)])
            await app.stop()
    found = await scrape()
    expected = {"response": 2, "timeout": 1, "failure": 1, "connection_failure": 1}
    for outcome, count in expected.items():
        labels = {"plugin": "http_auth", "upstream": "auth", "outcome": outcome}
        assert found.get("asgi_wasm_callout_seconds_count", **labels) == count, outcome
    slow = found.get("asgi_wasm_callout_seconds_sum", plugin="http_auth", upstream="auth", outcome="timeout")
    assert slow is not None and slow >= 0.29


async def test_root_only_plugin() -> None:
    app = wrapped(answering(b"app"), plugin("queue", "queue/rust.wasm", conf={"tick_ms": 10}))
    await app.start()
    await request(app)
    labels = {"plugin": "queue", "callback": "on_tick"}
    while not (found := await scrape()).get("asgi_wasm_callback_seconds_count", **labels):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert found.get("asgi_wasm_callback_seconds_count", **labels)
    assert found.get("asgi_wasm_callback_seconds_count", plugin="queue", callback="on_queue_ready")
    await app.stop()


async def test_plugins_that_share_a_vm_are_told_apart() -> None:
    file = "lifecycle/abi_0_2_1.wasm"
    app = wrapped(answering(b"app"), plugin("one", file, conf="1"), plugin("two", file, conf="2"))
    await app.start()
    await request(app)
    found = await scrape()
    assert actions(found, "one") == actions(found, "two") != {}
    assert found.get("asgi_wasm_vm_starts_total", plugin="one") == 1
    assert found.get("asgi_wasm_vm_starts_total", plugin="two") is None
    await app.stop()


async def test_two_middlewares_and_a_restart() -> None:
    entry = plugin("counter", "counter/assemblyscript.wasm", conf="c")
    apps = [wrapped(answering(b"app"), entry) for _ in range(2)]
    for app in apps:
        await app.start()
        await request(app)
    found = await scrape()
    assert found.get("c_requests_total", plugin="counter") == 2
    both = found.get("asgi_wasm_vm_memory_bytes", plugin="counter")
    await apps[0].stop()
    await apps[0].start()
    await request(apps[0])
    found = await scrape()
    assert found.get("c_requests_total", plugin="counter") == 3
    assert found.get("asgi_wasm_vm_memory_bytes", plugin="counter") == both
    for app in apps:
        await app.stop()
    found = await scrape()
    assert found.get("c_requests_total", plugin="counter") == 3
    assert found.all("asgi_wasm_vm_memory_bytes") == found.all("c_in_flight") == {}


@pytest.mark.parametrize("metrics", [False, {"enabled": False, "rules": []}])
async def test_off(store: MetricRegistry, metrics: Any) -> None:
    app = wrapped(answering(b"app"), plugin("counter", "counter/assemblyscript.wasm"), metrics=metrics)
    await app.start()
    await request(app)
    assert (await scrape()).text == ""
    await app.stop()
    assert store.measures == []


@pytest.mark.parametrize(("metrics", "same"), [(False, True), (True, False)])
async def test_callbacks_are_wrapped_only_when_somebody_counts(metrics: bool, same: bool) -> None:
    app = wrapped(answering(b"app"), plugin("counter", "counter/assemblyscript.wasm"), metrics=metrics)
    await app.start()
    worker = app._worker
    assert worker is not None
    (filters,) = worker.plugins.router.every_filter()
    vm = filters.root().vm
    for name, wrappable in (("proxy_on_log", True), ("malloc", False), ("proxy_on_memory_allocate", False)):
        function = vm.function("proxy_on_log")
        assert function is not None
        assert (watched(vm.ports, name, function, str, []) is function) is (same or not wrappable)
    await app.stop()


def test_nobody_counts_without_a_word() -> None:
    NO_HOST_METRICS.timer("p", "on_log")(0.1)
    NO_HOST_METRICS.decision("p", "on_request_headers", "continue")()
    NO_HOST_METRICS.callout_ended("p", "auth", "response", 1)


@pytest.mark.parametrize(
    ("name", "exported"),
    [
        (b"plain", {"plain_total", "plain_gauge", "plain_histogram_sum"}),
        (b"", {"__total", "__gauge", "__histogram_sum"}),
        (b'a\nb{x="1"} 5\xff\x00', {"a_b_x__1___5___total"}),
        (b"asgi_wasm_traps", {"asgi_wasm_traps_counter_total", "asgi_wasm_traps_gauge"}),
        (b"x" * 5000, set()),
    ],
    ids=["plain", "empty", "forged", "the-hosts", "long"],
)
async def test_any_name_in_every_type_from_a_guest(tmp_path: Path, name: bytes, exported: set[str]) -> None:
    (tmp_path / "defining.wasm").write_bytes(wasmtime.wat2wasm(DEFINING))

    app = wrapped(answering(b"app"), plugin("defining", tmp_path / "defining.wasm", conf=name))
    await app.start()
    for openmetrics in (False, True):
        found = await scrape(openmetrics=openmetrics)
        assert {found.get(sample, plugin="defining") for sample in exported} <= {3}
        own = {sample for sample in found.names if not sample.startswith("asgi_wasm_")}
        assert bool(own) is bool(exported) or name == b"asgi_wasm_traps"
    await app.stop()


async def test_istios_names_from_a_guest() -> None:
    tags = ("reporter", "response_code")
    metrics = {"stats_tags": [{"tag_name": tag, "regex": rf"({tag}=\.=(.*?);\.;)"} for tag in tags]}
    conf = "reporter=.=destination;.;response_code=.=200;.;istio"
    entry = plugin("counter", "counter/assemblyscript.wasm", conf=conf)
    app = wrapped(answering(b"app"), entry, metrics=metrics)
    await app.start()
    await request(app)
    labels = {"plugin": "counter", "reporter": "destination", "response_code": "200"}
    assert (await scrape()).get("istio_requests_total", **labels) == 1
    await app.stop()


async def test_rules_of_the_settings() -> None:
    metrics = {"stats_tags": [{"tag_name": "count", "regex": r"^wasmcustom\.((\w+)\.)"}], "buckets": [1, 2]}
    app = wrapped(answering(b"app"), plugin("counter", "counter/assemblyscript.wasm", conf="c"), metrics=metrics)
    await app.start()
    await request(app)
    found = await scrape()
    assert found.get("requests_total", plugin="counter", count="c") == 1
    assert found.get("path_length_bucket", plugin="counter", count="c", le="1.0") == 1
    assert len(found.all("path_length_bucket")) == 3
    await app.stop()


async def test_start_that_fails_leaves_nothing(store: MetricRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str, **_: object) -> None:
        raise EngineUnavailableError(name)

    monkeypatch.setattr("asgi_wasm.worker.loading.create_engine", none)
    app = wrapped(answering(b"app"), plugin("counter", "counter/assemblyscript.wasm"))
    with pytest.raises(EngineUnavailableError):
        await app.start()
    assert (await request(app)).status == 503
    assert store.measures == []


def test_the_paper_has_a_row_for_each_metric() -> None:
    """Its name as Prometheus has it, and its type."""
    kinds: dict[str, str] = {}

    class Told:
        measures: ClassVar[list[object]] = []

        def family(self, name: str, kind: str, *_: object) -> None:
            kinds[f"{name}_total" if kind == COUNTER else name] = kind

    PrometheusHostMetrics(cast(MetricRegistry, Told()), SystemClock())
    rows = dict(re.findall(r"^\| `(asgi_wasm_\w+)`[^|]*\| (\w+) \|", OPERATIONS.read_text("utf-8"), re.MULTILINE))
    assert rows == kinds, "each metric of the host's has a row in asgi_wasm/OPERATIONS.md, with its type"
