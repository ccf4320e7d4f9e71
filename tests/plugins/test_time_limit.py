"""A plugin that never returns is stopped, its request has the failure policy, and its neighbours go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from asgi_wasm import PluginStartError
from asgi_wasm.testing import LogLine, WasmHost, WasmPlugin
from tests.plugins.conftest import Make

LOOP = "(loop $l (br $l))"
# Loops where $where is: for requests, only those with more than eight headers.
WAT = """(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "_initialize") {initialize})
  (func (export "proxy_on_configure") (param i32 i32) (result i32) {configure} (i32.const 1))
  (func (export "proxy_on_log") (param i32) {log})
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (if (i32.gt_u (local.get 1) (i32.const 8)) (then {headers})) (i32.const 0)))"""
PLACES = ("initialize", "configure", "log", "headers")
MANY = {f"x-{number}": "1" for number in range(9)}


def written(folder: Path, where: str, code: str = LOOP) -> Path:
    """The module's file."""
    (folder / "p.wasm").write_bytes(wasmtime.wat2wasm(WAT.format(**dict.fromkeys(PLACES, "") | {where: code})))
    return folder / "p.wasm"


def told(plugins: WasmHost | WasmPlugin, words: str) -> list[LogLine]:
    """The host's lines about it."""
    return [line for line in plugins.logs if line.by_host and words in line.text]


@pytest.mark.parametrize(("policy", "status"), [("fail_closed", 503), ("fail_open", 200), ("fail_reload", 503)])
async def test_a_request_that_never_ends(
    tmp_path: Path, wasm_host: Callable[..., WasmHost], policy: str, status: int
) -> None:
    file = written(tmp_path, "headers")
    # So that it is back at once, whatever the policy.
    back: dict[str, Any] = {"failure_policy": policy, "reload_config": {"backoff": {"base_interval": 0.001}}}
    plugins = [{"name": "p", "file": file, **back}, {"name": "neighbour", "file": file, "vm_id": "another"}]
    host = wasm_host({"plugins": plugins, "limits": {"callback_ms": 100}})
    await host.start()
    for _ in range(2):
        # With `fail_open` the neighbour is next, and loops too.
        assert (await host.get(headers=MANY)).status == (503 if policy == "fail_open" else status)
        # Its VM comes back by the clock, which the test moves.
        await host.advance(1)
        assert (await host.get()).status == 200
    (line, *_) = told(host, "failed")
    assert line.plugin == "p"
    assert "interrupted, since proxy_on_request_headers ran for" in line.text
    assert "limits.callback_ms is 100" in line.text


@pytest.mark.parametrize(
    ("where", "words"), [("initialize", "since _initialize ran"), ("configure", "since proxy_on_configure ran")]
)
async def test_a_start_that_never_ends(tmp_path: Path, wasm_plugin: Make, where: str, words: str) -> None:
    with pytest.raises(PluginStartError, match=words):
        await wasm_plugin(written(tmp_path, where), limits={"callback_ms": 100}).start()


async def test_a_log_that_never_ends(tmp_path: Path, wasm_plugin: Make) -> None:
    plugin = wasm_plugin(written(tmp_path, "log"), limits={"callback_ms": 100})
    for _ in range(2):
        assert (await plugin.get()).status == 200
    assert told(plugin, "since proxy_on_log ran for")


async def test_what_is_slow_is_said_and_goes_on(tmp_path: Path, wasm_plugin: Make) -> None:
    """Some hundred million rounds take longer than ten milliseconds on any machine, and less than a minute."""
    rounds = """(local $n i32) (loop $l (br_if $l (i32.lt_u
      (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 300000000))))"""
    limits = {"slow_callback_ms": 10, "callback_ms": 60_000}
    plugin = wasm_plugin(written(tmp_path, "log", rounds), limits=limits)
    for _ in range(2):
        assert (await plugin.get()).status == 200
    lines = told(plugin, "slow_callback_ms")
    assert len(lines) == 1, "a plugin that is always slow does not fill the log"
    assert lines[0].level == "WARN"
    assert "proxy_on_log has run for" in lines[0].text
