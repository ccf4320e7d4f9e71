"""`asgi-wasm request`: one request through real plugins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime

from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.testing import Action, Guest, Hostcalls, MapType
from asgi_wasm.testing.plugin import SyncWasmPlugin
from tests.cli.running import PLUGINS, run

FAULT = PLUGINS / "fault_injection" / "rust.wasm"
AUTH = PLUGINS / "http_auth" / "rust.wasm"
HEADERS = PLUGINS / "headers" / "rust.wasm"


def test_a_local_response(tmp_path: Path) -> None:
    done = run("request", FAULT, "/x", "--conf", '{"http_status": 418, "body": "no"}', cwd=tmp_path)
    assert done.status == 0
    plugin, app, client = (part.partition("\n")[2] for part in done.out.split("— ")[1:])
    assert "on_request_headers(context_id=2, num_headers=4, end_of_stream=1) = PAUSE" in plugin
    assert "  send_local_response(status_code=418, " in plugin
    assert app.startswith("nothing")
    assert client.startswith("418\n") and client.endswith("\n\nno\n")


def test_what_the_app_sees_and_answers(tmp_path: Path) -> None:
    (tmp_path / "body.txt").write_text("from a file")
    (tmp_path / "conf.json").write_text('{"response": {"add": {"x-out": "1"}}, "path": "/new"}')
    arguments = ["-X", "PUT", "-H", "X-A: b: c", "-d", "@body.txt", "--conf", "@conf.json", "--json"]
    answer = ["--response-status", "404", "--response-header", "x-app: 1", "--response-body", "gone"]
    done = run("request", HEADERS, "/old?q=1", *arguments, *answer, cwd=tmp_path)
    shown = json.loads(done.out)
    assert (shown["app"]["method"], shown["app"]["target"], shown["app"]["body"]) == ("PUT", "/new", "from a file")
    assert ["x-a", "b: c"] in shown["app"]["headers"]
    assert (shown["client"]["status"], shown["client"]["body"]) == (404, "gone")
    assert {"x-out", "x-app"} <= {name for name, _ in shown["client"]["headers"]}
    callback = next(call for call in shown["calls"] if call["name"] == "proxy_on_request_headers")
    assert callback["callback"] and callback["microseconds"] > 0


@pytest.mark.parametrize(
    ("upstream", "words"),
    [
        (["auth=200:ok"], "x-auth: ok"),
        (["auth=403"], "x-auth-status: 403"),
        (["auth=fail"], "x-auth-status: 503"),
        (["auth=timeout"], "x-auth-status: 504"),
        ([], "cannot ask"),
    ],
)
def test_upstreams(tmp_path: Path, upstream: list[str], words: str) -> None:
    done = run("request", AUTH, "-H", "x-user: bob", *(f"--upstream={text}" for text in upstream), cwd=tmp_path)
    assert words in done.out
    assert ("the upstream auth saw" in done.out) == bool(upstream)
    assert ("host: it calls the upstream 'auth'" in done.out) != bool(upstream)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-H", "x"], "-H 'x': write 'name: value'"),
        (["-H", "a b: c"], "-H 'a b: c': write 'name: value', without blanks in the name"),
        (["-H", "a: b\nc: d"], "on one line"),
        (["--response-header", "x"], "--response-header 'x': write 'name: value'"),
        (["-X", "GE T"], "-X 'GE T': write a method, as GET"),
        (["nopath"], "target 'nopath': write path and query, as /orders?id=1"),
        (["/a b"], "a blank in it as %20"),
        (["http://a.test/b"], "and the host with -H 'host: NAME'"),
        (["-d", "@none"], "-d '@none': the file cannot be read (No such file or directory): check the path"),
        (["--conf", "@none"], "--conf '@none': the file cannot be read"),
        (["--response-body", "@none"], "--response-body '@none': the file cannot be read"),
        (["--response-status", "99"], "--response-status 99: write 200 to 599"),
        (["--upstream", "auth"], "--upstream 'auth': write NAME=VALUE"),
        (["--upstream", "auth=maybe"], "write auth=STATUS:BODY (200 to 599), auth=fail or auth=timeout"),
        (["--upstream", "auth=700"], "write auth=STATUS:BODY (200 to 599), auth=fail or auth=timeout"),
        (["--conf", "{}", "--engine", "v8"], "--engine 'v8': choose auto, wasmtime or wasmer"),
        (["--conf", "nonsense"], "conf is not JSON"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_mistake_is_one_sentence(in_tmp_path: None, arguments: list[str], words: str, as_json: bool) -> None:
    done = run("request", FAULT, *arguments, *(["--json"] if as_json else []), cwd=Path())
    assert done.status == 1
    assert words in done.err and done.err.count("\n") == 1
    assert json.loads(done.out)["error"] + "\n" == done.err if as_json else not done.out


def test_a_request_that_is_not_answered(in_tmp_path: None) -> None:
    script = PLUGINS / "probe" / "abi_0_2_1.wasm"
    arguments = ("request", script, "--conf", "request_headers: return 1")
    done = run(*arguments, "--json", cwd=Path())
    shown = json.loads(done.out)
    assert done.status == 1 and shown["error"] + "\n" == done.err
    assert "proxy_on_request_headers" in [call["name"] for call in shown["calls"]]
    done = run(*arguments, cwd=Path())
    assert done.status == 1 and "on_request_headers" in done.out and done.err.count("\n") == 1


def test_a_plugin_that_traps_is_shown(tmp_path: Path) -> None:
    script = PLUGINS / "probe" / "abi_0_2_1.wasm"
    done = run("request", script, "--conf", "request_headers: trap", cwd=tmp_path)
    assert "on_request_headers" in done.out and " failed: " in done.out
    assert "— the client got\n503" in done.out


def test_settings_of_the_folder_have_no_say(tmp_path: Path) -> None:
    (tmp_path / "asgi-wasm.yaml").write_text("nonsense: 1\n")
    assert run("request", HEADERS, cwd=tmp_path).status == 0


# Prints as Go's runtime does, piece by piece, waits as it does, and has its last word in a long line of the log.
_PRINTS = f"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_res_get" (func $wait (param i32 i32) (result i32)))
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "\\40\\00\\00\\00\\07\\00\\00\\00" "\\47\\00\\00\\00\\07\\00\\00\\00")
  (data (i32.const 64) "panic: no luck\\n")
  (data (i32.const 128) "{"a" * 200}!")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 4096)
  (func $print (param i32) (drop (call $write (i32.const 2) (local.get 0) (i32.const 1) (i32.const 8))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $print (i32.const 16))
    (call $print (i32.const 24))
    {"(drop (call $wait (i32.const 0) (i32.const 0)))" * 50}
    (drop (call $log (i32.const 2) (i32.const 128) (i32.const 201)))
    i32.const 0))"""


def test_what_a_runtime_prints_and_waits_for(tmp_path: Path) -> None:
    (tmp_path / "prints.wasm").write_bytes(wasmtime.wat2wasm(_PRINTS))
    done = run("request", "prints.wasm", cwd=tmp_path)
    shown = done.out.splitlines()
    assert "  stderr: panic: no luck" in shown
    assert "  … and 42 more calls of WASI" in shown
    assert sum("clock_res_get" in text for text in shown) == 8
    # Whole: the reason of a panic stands at its end.
    assert f"{'a' * 200}!" in done.out


def test_why_a_hostcall_was_refused(sync_wasm_plugin: Callable[..., SyncWasmPlugin]) -> None:
    def late(host: Hostcalls, *_: int) -> int:
        host.call("get_header_map_value", MapType.HTTP_REQUEST_HEADERS, b"x")
        host.call("http_call", b"auth", encode_pairs([(b":method", b"GET")]), b"", b"", 1000)
        return Action.CONTINUE

    plugin = sync_wasm_plugin(Guest(on_response_headers=late))
    plugin.upstream("auth")
    plugin.get("/")
    assert "BAD_ARGUMENT (these are there in their own callback and while that pauses, as in Envoy)" in plugin.trace
    assert "BAD_ARGUMENT (its headers want :path, :authority)" in plugin.trace
