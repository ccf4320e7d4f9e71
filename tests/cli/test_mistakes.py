"""What is wrong with a command line is one sentence of what was typed: of `run`, of `test`, and what plugins refuse."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from tests.cli.running import PLUGINS, run

FAULT = PLUGINS / "fault_injection" / "rust.wasm"
HEADERS = PLUGINS / "headers" / "rust.wasm"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to run"),
        ([str(FAULT), "--conf", "x"], "conf is not JSON"),
        ([str(FAULT), "--conf", "{}", "--conf", "{}"], "--conf is given 2 times for 1 plugins"),
        ([str(FAULT), "--app", "a:b", "--upstream", "http://x"], "--app and --upstream exclude each other"),
        ([str(FAULT), "--app", "nowhere"], "--app 'nowhere': write module:app"),
        ([str(FAULT), "--app", "nowhere:app"], "--app 'nowhere:app' cannot be imported: No module named 'nowhere'"),
        ([str(FAULT), "--upstream", "x"], "--upstream 'x': write http://host:port"),
        ([str(FAULT), "--callout", "x"], "--callout 'x': write NAME=VALUE"),
        ([str(FAULT), "--callout", "x=ftp://y"], "--callout 'ftp://y': write x=http://host:port"),
        ([str(FAULT), "--log-level", "loud"], "--log-level 'loud': choose debug, info, warning or error"),
        ([str(FAULT), "--build", "no-such-program -x"], "--build 'no-such-program -x': there is no such program"),
        ([str(FAULT), "--build", "'open"], "cannot be read: No closing quotation"),
        ([str(FAULT), "--engine", "v8"], "--engine 'v8': choose auto, wasmtime or wasmer"),
        (["--settings", "none.yaml"], "settings file none.yaml does not exist"),
        (["--settings", "none.yaml", "--watch"], "with --settings say 'watch: true' there"),
    ],
)
def test_mistakes_of_run(in_tmp_path: None, arguments: list[str], words: str) -> None:
    done = run("run", *arguments, "--port", "0", cwd=Path())
    assert done.status == 1
    assert words in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize("where", [("--port", "65536"), ("--host", "no host")])
def test_an_address_that_is_none(in_tmp_path: None, where: tuple[str, str]) -> None:
    done = run("run", HEADERS, *where, cwd=Path())
    assert (done.status, done.out) == (1, "")
    assert ": cannot listen there: " in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize("start", ["run", "request", "bench"])
def test_a_plugin_without_the_conf_that_it_needs(in_tmp_path: None, start: str) -> None:
    """It is told once, and under the name that was typed."""
    done = run(start, "asgi_wasm:fault_injection", *(["--port", "0"] if start == "run" else []), cwd=Path())
    assert done.status == 1
    assert "fault_injection" not in done.out
    assert (
        done.err.startswith("plugin 'fault_injection' (asgi_wasm:fault_injection): it refused to start without a conf")
        and done.err.count("\n") == 1
    )
    assert done.err.endswith("its last words: fault_injection: conf is empty; give it one with --conf\n")


def test_a_plugin_whose_conf_is_wrong(in_tmp_path: None) -> None:
    """Another one, without a conf, is not to blame."""
    files = ("asgi_wasm:fault_injection", HEADERS)
    done = run("run", *files, "--conf", "x", "--port", "0", cwd=Path())
    assert done.status == 1
    assert "conf is not JSON" in done.err and "give it one" not in done.err


def test_every_plugin_that_does_not_start_is_told(in_tmp_path: None) -> None:
    """The exception names the first of them alone."""
    Path("text.wasm").write_text("hello")
    done = run("run", "text.wasm", "asgi_wasm:fault_injection", "--port", "0", cwd=Path())
    assert done.status == 1
    assert "plugin 'text' (text.wasm): is no WebAssembly file" in done.err and "fault_injection" not in done.err
    assert "plugin 'fault_injection' (" in done.out and "text.wasm" not in done.out


def test_a_plugin_that_is_not_there_is_built_first(in_tmp_path: None) -> None:
    """And missed then, since this builds another one."""
    # No shell's: some machines have none.
    Path("make.py").write_text("import pathlib\npathlib.Path('other.wasm').write_text('hello')\n")
    build = f"{shlex.quote(sys.executable)} make.py"
    done = run("run", "built.wasm", "--build", build, "--port", "0", cwd=Path())
    assert done.status == 1
    assert done.out == f"{build}\nbuilt\n"
    assert done.err == "no such file: built.wasm: build the plugin first, or check the path\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.textpb", None, "none.textpb does not exist"),
        (
            "bad.textpb",
            "test { nam: 1 }",
            'bad.textpb: 1:8 : Message type "asgi_wasm.testing.Test" has no field named "nam".',
        ),
        ("bad.yaml", "test: [{nam: 1}]", "bad.yaml: Test has no field 'nam'"),
        ("bad.yaml", "test: [1]", "bad.yaml: Test must be a mapping, not 1"),
        ("bad.yaml", "[", "bad.yaml: "),
        ("bad.textpb", "test { num_chunks: 1 chunk_size: 2 }", 'another member of oneof "plan"'),
        ("bad.yaml", "test: [{num_chunks: 1, chunk_size: 2}]", "'chunk_size' and 'num_chunks' exclude each other"),
        ("bad.textpb", 'test { plugin_init { log { exact: "a" regex: "b" } } }', 'another member of oneof "matcher"'),
        ("empty.textpb", "", "empty.textpb: names no wasm_path: give --plugin FILE"),
        ("conf.textpb", 'env { wasm_path: "conf.textpb" config_path: "none" }', "file 'none' cannot be read"),
        ("gone.textpb", 'env { wasm_path: "none.wasm" }', "gone.textpb: its wasm_path 'none.wasm' is no file: build"),
        ("a.wasm", "", "a.wasm is a plugin: give a file of tests, and the plugin with --plugin a.wasm"),
        (".", None, "no tests: none of . has a .textpb file or a *tests.yaml"),
    ],
)
def test_mistakes_of_test(in_tmp_path: None, name: str, content: str | None, words: str) -> None:
    if content is not None:
        Path(name).write_text(content)
    done = run("test", name, cwd=Path())
    assert done.status == 1
    assert words in done.err and done.err.count("\n") == 1
