"""Metrics that a plugin defines, with names of every kind, beside the host's; rules that the settings have for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

from tests.driving import answering, request
from tests.services.metrics.counting import PAGE, actions, plugin, wrapped
from tests.services.metrics.scraping import scrape

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
