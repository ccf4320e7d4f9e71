"""A plugin that never returns is stopped, its request has the failure policy, and its neighbours go on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from asgi_wasm import PluginStartError, WasmMiddleware
from tests.driving import answering, request

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
MANY = [(f"x-{number}".encode(), b"1") for number in range(9)]


def settings(folder: Path, where: str, code: str = LOOP, **more: Any) -> dict[str, Any]:
    (folder / "p.wasm").write_bytes(wasmtime.wat2wasm(WAT.format(**dict.fromkeys(PLACES, "") | {where: code})))
    return {"cache_dir": str(folder / "cache"), "plugins": [{"name": "p", "file": folder / "p.wasm", **more}]}


@pytest.mark.parametrize(("policy", "status"), [("fail_closed", 503), ("fail_open", 200), ("fail_reload", 503)])
async def test_a_request_that_never_ends(
    tmp_path: Path, policy: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    # So that it is back at once, whatever the policy.
    backoff = {"base_interval": 0.001}
    chosen = settings(tmp_path, "headers", failure_policy=policy, reload_config={"backoff": backoff})
    neighbour = {"name": "neighbour", "file": tmp_path / "p.wasm", "vm_id": "another"}

    async def main() -> None:
        app = WasmMiddleware(
            answering(b"app"),
            settings={**chosen, "plugins": [*chosen["plugins"], neighbour], "limits": {"callback_ms": 100}},
        )
        await app.start()
        for _ in range(2):
            # With `fail_open` the neighbour is next, and loops too.
            assert (await request(app, headers=MANY)).status == (503 if policy == "fail_open" else status)
            assert (await request(app)).body == b"app"
        await app.stop()

    await main()
    (line, *_) = [record for record in caplog.records if "failed" in record.message]
    assert "'p'" in line.message
    assert "interrupted, since proxy_on_request_headers ran for" in line.message
    assert "limits.callback_ms is 100" in line.message


@pytest.mark.parametrize(
    ("where", "words"), [("initialize", "since _initialize ran"), ("configure", "since proxy_on_configure ran")]
)
async def test_a_start_that_never_ends(tmp_path: Path, where: str, words: str) -> None:
    app = WasmMiddleware(answering(b"app"), settings=settings(tmp_path, where, limits={"callback_ms": 100}))
    with pytest.raises(PluginStartError, match=words):
        await app.start()
    await app.stop()


async def test_a_log_that_never_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        app = WasmMiddleware(answering(b"app"), settings=settings(tmp_path, "log", limits={"callback_ms": 100}))
        await app.start()
        for _ in range(2):
            assert (await request(app)).body == b"app"
        await app.stop()

    await main()
    assert "since proxy_on_log ran for" in caplog.text


async def test_what_is_slow_is_said_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Some hundred million rounds take longer than ten milliseconds on any machine, and less than a minute."""
    rounds = """(local $n i32) (loop $l (br_if $l (i32.lt_u
      (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 300000000))))"""
    chosen = settings(tmp_path, "log", rounds, limits={"slow_callback_ms": 10, "callback_ms": 60_000})

    async def main() -> None:
        app = WasmMiddleware(answering(b"app"), settings=chosen)
        await app.start()
        for _ in range(2):
            assert (await request(app)).body == b"app"
        await app.stop()

    await main()
    lines = [record for record in caplog.records if "slow_callback_ms" in record.message]
    assert len(lines) == 1, "a plugin that is always slow does not fill the log"
    assert lines[0].levelno == logging.WARNING
    assert "'p'" in lines[0].message and "proxy_on_log has run for" in lines[0].message
