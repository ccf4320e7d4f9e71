"""Files that are no good, through `WasmMiddleware`: a sentence names plugin and file, and nobody else is harmed."""

from __future__ import annotations

import asyncio
import logging
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from asgi_wasm.errors import AsgiWasmError, PluginError
from asgi_wasm.specs import FailurePolicy
from tests.driving import Response, answering, request

ENGINES = ["wasmtime"] + (["wasmer"] if find_spec("wasmer_compiler_cranelift") else [])


def wasm(*fields: str, marker: str = "0_2_1", malloc: bool = True, memory: bool = True) -> bytes:
    """A plugin with these further fields."""
    text = " ".join(fields)
    if marker:
        text += f' (func (export "proxy_abi_version_{marker}"))'
    if malloc:
        text += ' (func (export "malloc") (param i32) (result i32) (i32.const 1024))'
    if memory:
        text += ' (memory (export "memory") 1)'
    return bytes(wasmtime.wat2wasm(f"(module {text})"))


def export(name: str, params: str, body: str, result: str = "") -> str:
    return f'(func (export "{name}") {params} {result} {body})'


ONE, TWO, THREE = ("(param i32)", "(param i32 i32)", "(param i32 i32 i32)")
I32 = "(result i32)"
GOOD_FILE = wasm()

# Name of the mistake -> content of the file, and what the sentence says.
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty: give the .wasm that the SDK built"),
    "text": (b"(module)", "is no WebAssembly file"),
    "something else": (b"\x7fELF" + bytes(100), "is no WebAssembly file"),
    "three bytes": (GOOD_FILE[:3], "is truncated: only 3 bytes long"),
    "header cut off": (GOOD_FILE[:7], "is truncated: only 7 bytes long"),
    "cut off in the middle": (GOOD_FILE[:30], ""),
    "last byte missing": (GOOD_FILE[:-1], ""),
    "garbage behind the header": (GOOD_FILE[:8] + b"\xff" * 50, ""),
    "component": (b"\0asm\x0d\0\1\0", "is a component; Proxy-Wasm plugins are core modules"),
    "no marker": (wasm(marker=""), r"it exports no proxy_abi_version_\* function.*: is it built with"),
    "unknown marker": (wasm(marker="9_9_9"), "it declares proxy_abi_version_9_9_9"),
    "no allocator": (wasm(malloc=False), "it exports neither malloc nor proxy_on_memory_allocate"),
    "no memory": (wasm(memory=False), "memory"),
    "callback arity": (
        wasm(export("proxy_on_request_headers", TWO, "(i32.const 0)", I32)),
        r"its callback proxy_on_request_headers has type \(i32, i32\) -> \(i32\), but ABI 0.2.1 wants",
    ),
    "callback result": (wasm(export("proxy_on_log", ONE, "(i32.const 0)", I32)), "its callback proxy_on_log has type"),
    "callback is a global": (
        wasm('(global (export "proxy_on_log") i32 (i32.const 0))'),
        "its export proxy_on_log is a global",
    ),
    "main": (
        wasm(export("_initialize", "", ""), export("main", "", "")),
        r"its callback main has type \(\) -> \(\)",
    ),
    "imported memory": (
        wasm('(import "env" "memory" (memory 1))', memory=False),
        "import env.memory is a memory, but only functions can be given",
    ),
    "imported table": (wasm('(import "env" "t" (table 1 funcref))'), "import env.t is a table"),
    "imported global": (wasm('(import "env" "g" (global i32))'), "import env.g is a global"),
    "hostcall of another type": (
        wasm('(import "env" "proxy_log" (func (param i32 i32) (result i32)))'),
        r"it imports proxy_log with type \(i32, i32\) -> \(i32\), but ABI 0.2.1 has",
    ),
    "WASI of another type": (
        wasm('(import "wasi_snapshot_preview1" "fd_write" (func (param i32)))'),
        r"it imports fd_write with type \(i32\) -> \(\), but WASI has",
    ),
    "a vector": (
        wasm('(func (export "f") (param v128))'),
        "its exported function 'f' takes or returns something that is no number",
    ),
    "trap in the start section": (wasm("(func $s unreachable) (start $s)"), "unreachable"),
    "trap in _initialize": (wasm(export("_initialize", "", "unreachable")), "its entry point failed: .*unreachable"),
    "trap in _start": (
        wasm(export("_start", "", "unreachable")),
        "its entry point failed: .*unreachable.*; it is built as a program",
    ),
    "trap in context_create": (
        wasm(export("proxy_on_context_create", TWO, "unreachable")),
        "it trapped while starting: .*unreachable",
    ),
    "trap in vm_start": (
        wasm(export("proxy_on_vm_start", TWO, "unreachable", I32)),
        "it trapped while starting: .*unreachable",
    ),
    "trap in configure": (
        wasm(export("proxy_on_configure", TWO, "unreachable", I32)),
        "it trapped while starting: .*unreachable",
    ),
    "vm_start false": (wasm(export("proxy_on_vm_start", TWO, "(i32.const 0)", I32)), "on_vm_start answered false"),
    "configure false": (wasm(export("proxy_on_configure", TWO, "(i32.const 0)", I32)), "on_configure answered false"),
    "endless recursion": (
        wasm('(func $f (export "_start") (call $f) (call $f))'),
        "its entry point failed: .*stack",
    ),
    "memory out of bounds": (
        wasm(export("_start", "", "(drop (i32.load (i32.const -1)))")),
        "its entry point failed: .*out of bounds",
    ),
}

# Adds a header to every response.
GOOD = wasm(
    '(import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))',
    '(data (i32.const 64) "x-good1")',
    export(
        "proxy_on_response_headers",
        THREE,
        "(call $add (i32.const 2) (i32.const 64) (i32.const 6) (i32.const 70) (i32.const 1))",
        I32,
    ),
)


async def http_only(scope: Scope, receive: Receive, send: Send) -> None:
    """As Django: raises on lifespan."""
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    await answering(b"app")(scope, receive, send)


class Served:
    """An app behind a bad plugin and a good one."""

    def __init__(self, directory: Path, engine: str, content: bytes | None, policy: str, **more: Any) -> None:
        bad, good = directory / "bad.wasm", directory / "good.wasm"
        good.write_bytes(GOOD)
        if content is not None:
            bad.write_bytes(content)
        self.app = WasmMiddleware(
            http_only,
            settings={
                "plugins": [
                    {"name": "bad-one", "file": str(bad), "failure_policy": policy, "priority": 9, **more},
                    {"name": "good-one", "file": str(good)},
                ],
                "engine": engine,
                "cache_dir": str(directory / "cache"),
            },
        )

    async def request(self, *paths: str) -> list[Response]:
        responses = [await request(self.app, path=path) for path in paths or ("/",)]
        await self.app.stop()
        return responses

    async def lifespan(self) -> list[Message]:
        sent: list[Message] = []
        incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive() -> Message:
            return incoming.pop(0)

        async def send(message: Message) -> None:
            sent.append(message)

        await asyncio.wait_for(self.app({"type": "lifespan", "asgi": {}}, receive, send), 60)
        return sent


def is_a_sentence(text: str) -> bool:
    return "\n" not in text and "Traceback" not in text and 'File "' not in text


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize("mistake", BAD)
async def test_startup_fails_with_a_sentence(tmp_path: Path, engine: str, mistake: str) -> None:

    content, words = BAD[mistake]
    (message,) = await Served(tmp_path, engine, content, "fail_closed").lifespan()
    assert message["type"] == "lifespan.startup.failed"
    text = message["message"]
    assert text.startswith(f"plugin 'bad-one' ({tmp_path / 'bad.wasm'}): ")
    assert is_a_sentence(text)
    assert re.search(words, text), text


@pytest.mark.parametrize("policy", [policy.value for policy in FailurePolicy])
@pytest.mark.parametrize("mistake", BAD)
async def test_requests_have_the_plugins_policy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, engine: str, mistake: str, policy: str
) -> None:
    with caplog.at_level(logging.INFO, logger="asgi_wasm"):
        first, second = await Served(tmp_path, engine, BAD[mistake][0], policy).request("/", "/again")
    for response in (first, second):
        if policy == "fail_open":
            assert (response.status, response.body) == (200, b"app")
            assert response.header(b"x-good") == b"1"
        else:
            assert (response.status, response.body) == (503, b"")
    reports = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"plugin 'bad-one' ({tmp_path / 'bad.wasm'}): " in reports[0].getMessage()
    assert all(is_a_sentence(record.getMessage()) and record.exc_info is None for record in caplog.records)
    # The other plugin was started, and runs.
    assert any(
        "plugin 'good-one'" in record.getMessage() and "started" in record.getMessage() for record in caplog.records
    )


async def test_startup_succeeds_past_a_plugin_that_fails_open(tmp_path: Path, engine: str) -> None:
    messages = await Served(tmp_path, engine, BAD["empty"][0], "fail_open").lifespan()
    assert [message["type"] for message in messages] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_bad_plugin_of_one_route_harms_no_other(tmp_path: Path, engine: str) -> None:
    served = Served(tmp_path, engine, BAD["trap in configure"][0], "fail_closed")
    served.app = WasmMiddleware(
        http_only,
        settings={
            "plugins": [
                {"name": "bad-one", "file": str(tmp_path / "bad.wasm")},
                {"name": "good-one", "file": str(tmp_path / "good.wasm"), "conf": ""},
            ],
            "routes": [{"uri": "/bad", "plugins": {"bad-one": {"conf": "x"}}}],
            "engine": engine,
            "cache_dir": str(tmp_path / "cache"),
        },
    )
    bad, other = await served.request("/bad", "/other")
    assert (bad.status, other.status) == (503, 200)
    assert other.header(b"x-good") == b"1"


@pytest.mark.parametrize("kind", ["missing", "directory"])
async def test_a_file_that_cannot_be_read(tmp_path: Path, engine: str, kind: str) -> None:
    if kind == "directory":
        (tmp_path / "bad.wasm").mkdir()
    with pytest.raises(AsgiWasmError) as caught:
        await Served(tmp_path, engine, None, "fail_closed").app.start()
    assert "bad-one" in str(caught.value) and str(tmp_path / "bad.wasm") in str(caught.value)
    assert is_a_sentence(str(caught.value))


async def test_a_file_that_became_good(tmp_path: Path, engine: str) -> None:
    served = Served(tmp_path, engine, BAD["configure false"][0], "fail_closed")
    with pytest.raises(PluginError, match="on_configure answered false"):
        await served.app.start()
    (tmp_path / "bad.wasm").write_bytes(GOOD)
    (response,) = await served.request()
    assert response.status == 200


CALLBACKS = {
    "proxy_on_request_headers": (THREE, I32),
    "proxy_on_request_body": (THREE, I32),
    "proxy_on_response_headers": (THREE, I32),
    "proxy_on_log": (ONE, ""),
    "proxy_on_done": (ONE, I32),
    "proxy_on_delete": (ONE, ""),
}


@pytest.mark.parametrize("policy", ["fail_closed", "fail_open"])
@pytest.mark.parametrize("name", CALLBACKS)
async def test_a_trap_in_a_callback_reaches_nobody_as_a_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, engine: str, name: str, policy: str
) -> None:
    params, result = CALLBACKS[name]
    served = Served(tmp_path, engine, wasm(export(name, params, "unreachable", result)), policy)

    await served.app.start()
    # Each request gets a fresh VM, and so the same again.
    responses = [await request(served.app, "POST", body=[b"body"]) for _ in range(3)]
    await served.app.stop()
    answered = policy == "fail_open" or name in ("proxy_on_log", "proxy_on_done", "proxy_on_delete")
    for response in responses:
        assert response.status == (200 if answered else 503)
        assert response.body == (b"app" if answered else b"")
    failures = [record for record in caplog.records if "unreachable" in record.getMessage()]
    assert failures, "and not each time: equal lines are written once a minute"
    assert all(is_a_sentence(record.getMessage()) and record.exc_info is None for record in caplog.records)
