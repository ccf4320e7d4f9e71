"""An endless loop in every entry into a plugin: each is interrupted, the log names it, and a neighbour goes on."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from asgi_wasm import WasmMiddleware, foreign_function
from asgi_wasm.host.codecs.wire import encode_pairs
from tests.driving import answering, request
from tests.serving import serve
from tests.waiting import wait_until

LOOP = "(loop $l (br $l))"
# Where it loops, and what the log calls that.
AT_THE_START = {
    "start_section": "it",
    "initialize": "_initialize",
    "create_root": "proxy_on_context_create",
    "vm_start": "proxy_on_vm_start",
    "configure": "proxy_on_configure",
}
IN_THE_REQUEST = {
    "create": "proxy_on_context_create",
    "request_headers": "proxy_on_request_headers",
    # The allocator is part of the callback around it.
    "malloc": "proxy_on_request_headers",
    "request_body": "proxy_on_request_body",
    "response_headers": "proxy_on_response_headers",
    "response_body": "proxy_on_response_body",
}
AFTERWARDS = {"log": "proxy_on_log", "done": "proxy_on_done", "delete": "proxy_on_delete"}
OUTSIDE = {
    "tick": "proxy_on_tick",
    "queue_ready": "proxy_on_queue_ready",
    "foreign_function": "proxy_on_foreign_function",
    "http_call_response": "proxy_on_http_call_response",
}
AT_THE_END = {"root_done": "proxy_on_done", "root_delete": "proxy_on_delete"}
PLACES = [*AT_THE_START, *IN_THE_REQUEST, *AFTERWARDS, *OUTSIDE, *AT_THE_END]
CALL = encode_pairs([(b":method", b"GET"), (b":path", b"/"), (b":authority", b"h")])
# It is armed by a request with x-go, and pauses one with x-pause. A tick does all that is answered later.
WAT = """(module
  (import "env" "proxy_set_tick_period_milliseconds" (func $period (param i32) (result i32)))
  (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_http_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_call_foreign_function" (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 100) "x-gox-pauseqdeadsoon") (data (i32.const 200) "@CALL@")
  (global $armed (mut i32) (i32.const 0)) (global $root (mut i32) (i32.const 0))
  (func $has (param i32 i32) (result i32)
    (i32.eqz (call $get (i32.const 0) (local.get 0) (local.get 1) (i32.const 16) (i32.const 20))))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (if (global.get $armed) (then @malloc@)) (i32.const 4096))
  @start_section@
  (func (export "_initialize") @initialize@)
  (func (export "proxy_on_context_create") (param i32 i32)
    (if (local.get 1) (then (if (global.get $armed) (then @create@)))
      (else (global.set $root (local.get 0)) @create_root@)))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) @vm_start@ (i32.const 1))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) @configure@
    (drop (call $period (i32.const 20)))
    (drop (call $register (i32.const 111) (i32.const 1) (i32.const 8))) (i32.const 1))
  (func (export "proxy_on_tick") (param i32) (if (global.get $armed) (then @tick@
    (drop (call $enqueue (i32.load (i32.const 8)) (i32.const 111) (i32.const 1)))
    (drop (call $call (i32.const 112) (i32.const 4) (i32.const 200) (i32.const @SIZE@) (i32.const 0) (i32.const 0)
      (i32.const 0) (i32.const 0) (i32.const 500) (i32.const 16)))
    (drop (call $foreign (i32.const 116) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))))
  (func (export "proxy_on_queue_ready") (param i32 i32) (if (global.get $armed) (then @queue_ready@)))
  (func (export "proxy_on_foreign_function") (param i32 i32 i32) @foreign_function@)
  (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) @http_call_response@)
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (if (call $has (i32.const 104) (i32.const 7)) (then (return (i32.const 1))))
    (if (call $has (i32.const 100) (i32.const 4))
      (then (global.set $armed (i32.const 1)) @request_headers@ (drop (call $has (i32.const 100) (i32.const 4)))))
    (i32.const 0))
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
    (if (global.get $armed) (then @request_body@)) (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (if (global.get $armed) (then @response_headers@)) (i32.const 0))
  (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
    (if (global.get $armed) (then @response_body@)) (i32.const 0))
  (func (export "proxy_on_log") (param i32) (if (global.get $armed) (then @log@)))
  (func (export "proxy_on_done") (param i32) (result i32)
    (if (i32.eq (local.get 0) (global.get $root)) (then @root_done@) (else (if (global.get $armed) (then @done@))))
    (i32.const 1))
  (func (export "proxy_on_delete") (param i32)
    (if (i32.eq (local.get 0) (global.get $root)) (then @root_delete@)
      (else (if (global.get $armed) (then @delete@))))))"""


def module(place: str) -> bytes:
    text = WAT.replace("@CALL@", "".join(f"\\{byte:02x}" for byte in CALL)).replace("@SIZE@", str(len(CALL)))
    for each in PLACES:
        text = text.replace(f"@{each}@", LOOP if each == place else "")
    if place == "start_section":
        text = text.replace(f"  {LOOP}\n", f"  (func $s {LOOP}) (start $s)\n", 1)
    return bytes(wasmtime.wat2wasm(text))


@foreign_function("soon")
async def soon(_: bytes) -> bytes:
    return b""


def wrapped(folder: Path, place: str, policy: str = "fail_closed") -> WasmMiddleware:
    for name, where in (("bad", place), ("good", "")):
        (folder / f"{name}.wasm").write_bytes(module(where))
    settings: dict[str, Any] = {
        "plugins": [{"name": name, "file": folder / f"{name}.wasm", "vm_id": name} for name in ("bad", "good")],
        "routes": [{"uri": f"/{name}", "plugins": {name: {"conf": ""}}} for name in ("bad", "good")],
        # Nobody listens there.
        "upstreams": {"dead": "http://127.0.0.1:1"},
        "cache_dir": folder / "cache",
    }
    settings["plugins"][0] |= {"failure_policy": policy, "limits": {"callback_ms": 100}}
    app = answering(b"app", headers=[(b"content-length", b"3")])
    return WasmMiddleware(app, settings=settings, foreign_functions=[soon])


async def asked(app: Any, path: str, name: bytes = b"x-go") -> tuple[int, bytes]:
    response = await request(app, "POST", path, headers=[(name, b"1")] if path == "/bad" else [], body=[b"x"])
    return response.status, response.body


@pytest.mark.parametrize("policy", ["fail_closed", "fail_open"])
@pytest.mark.parametrize("place", [*IN_THE_REQUEST, *AFTERWARDS, *OUTSIDE])
async def test_while_it_serves(tmp_path: Path, place: str, policy: str, caplog: pytest.LogCaptureFixture) -> None:
    """Another request of that VM, which is paused meanwhile, has the failure policy too."""
    answer = (200, b"app") if policy == "fail_open" else (503, b"")

    async with wrapped(tmp_path, place, policy) as app:
        paused = asyncio.ensure_future(asked(app, "/bad", b"x-pause"))
        await asyncio.sleep(0)
        # The first one arms the plugin.
        first = await asked(app, "/bad")
        if place == "create":
            first = await asked(app, "/bad")
        assert first == (answer if place in IN_THE_REQUEST else (200, b"app"))
        if place in AFTERWARDS:
            # The VM is let go of by the next request.
            assert (await asked(app, "/bad", b"x-other"))[0] == 200
        assert await paused == answer
        assert await asked(app, "/good") == (200, b"app")
        assert await asked(app, "/bad", b"x-other") == (200, b"app")
    name = (IN_THE_REQUEST | AFTERWARDS | OUTSIDE)[place]
    assert f"interrupted, since {name} ran for" in caplog.text
    assert "limits.callback_ms is 100" in caplog.text


@pytest.mark.parametrize("place", AT_THE_START)
async def test_at_the_start(tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture) -> None:
    app = wrapped(tmp_path, place)
    assert await asked(app, "/bad") == (503, b"")
    assert await asked(app, "/good") == (200, b"app")
    await app.stop()
    assert f"interrupted, since {AT_THE_START[place]} ran for" in caplog.text


@pytest.mark.parametrize("place", AT_THE_END)
async def test_at_the_end(tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture) -> None:
    async with wrapped(tmp_path, place) as app:
        assert await asked(app, "/good") == (200, b"app")
    assert f"interrupted, since {AT_THE_END[place]} ran for" in caplog.text


def test_in_several_event_loops_at_once(tmp_path: Path) -> None:
    """Each thread has its own VM, and its own limit."""
    app = wrapped(tmp_path, "request_headers")
    answers: list[tuple[int, bytes]] = []

    async def ask() -> None:
        answers.extend([await asked(app, "/bad"), await asked(app, "/good"), await asked(app, "/bad", b"x-other")])

    threads = [threading.Thread(target=asyncio.run, args=(ask(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == [(200, b"app")] * 8 + [(503, b"")] * 4


APP = """
from pathlib import Path
from tests.plugins.test_endless import wrapped

app = wrapped(Path.cwd(), "tick")
"""


def test_a_server_hears_the_signal_to_stop(tmp_path: Path) -> None:
    import httpx

    (tmp_path / "endless.py").write_text(APP)

    def is_heard_in_a_tick() -> bool:
        with serve("endless:app", "--no-access-log", cwd=tmp_path) as server:
            with httpx.Client(base_url=server.url, timeout=60) as client:
                assert client.get("/bad", headers={"x-go": "1"}).status_code == 200
            # A tick comes within 20 ms, and loops.
            time.sleep(0.05)
            server.process.terminate()
            server.process.wait(60)
            log = server.log()
        assert "Traceback" not in log
        assert os.name != "posix" or server.process.returncode in (0, -15)
        return "interrupted, since proxy_on_tick ran for" in log

    # Again where the server was left standing, and told to end before its tick.
    wait_until(is_heard_in_a_tick)
