"""What is said of a plugin's file that cannot be used: by each command, in words of what was typed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from asgi_wasm.cli.plugin_files import plugin_file
from asgi_wasm.errors import SettingsError
from tests.cli.running import run

COMMANDS = ("inspect", "request", "run", "bench")


@pytest.fixture
def files(in_tmp_path: None) -> None:
    Path("folder").mkdir()
    Path("empty.wasm").touch()
    Path("text.wasm").write_text("hello")
    Path("bare.wasm").write_bytes(b"\0asm\1\0\0\0")
    Path("broken.wasm").write_bytes(b"\0asm\1\0\0\0\xff\xff")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("none.wasm", "no such file: none.wasm: build the plugin first, or check the path"),
        ("fault_injection.wasm", "no such file: fault_injection.wasm: did you mean asgi_wasm:fault_injection?"),
        ("fault_injection", "no such file: fault_injection: did you mean asgi_wasm:fault_injection?"),
        ("folder", "folder is a folder: give the .wasm file in it"),
        ("", "the plugin's name is empty: give its .wasm file"),
        ("a\0b.wasm", "a\\x00b.wasm is no path, since it holds a character NUL: give a .wasm file"),
        ("empty.wasm", "plugin 'empty' (empty.wasm): is empty: give the .wasm that the SDK built"),
        ("text.wasm", "plugin 'text' (text.wasm): is no WebAssembly file: give the .wasm that the SDK built"),
        ("bare.wasm", "plugin 'bare' (bare.wasm): it exports no proxy_abi_version_* function; this host runs ABI"),
        ("broken.wasm", "plugin 'broken' (broken.wasm): wasmtime refuses it: "),
        ("asgi_wasm:none", "'asgi_wasm:none' is no plugin of this package: known are asgi_wasm:fault_injection"),
        ("ftp://a/b.wasm", "ftp://a/b.wasm begins with ftp://: give a path, an https:// URL or oci://registry/"),
    ],
)
def test_of_each_command(command: str, file: str, sentence: str) -> None:
    done = run(command, file, *(["--port", "0"] if command == "run" else []), cwd=Path())
    assert done.status == 1
    assert done.err.startswith(sentence) and done.err.count("\n") == 1


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("command", ["request", "run", "bench"])
def test_what_is_to_be_fetched_names_its_sha256(command: str) -> None:
    done = run(command, "https://plugins.test/a.wasm", cwd=Path())
    assert done.status == 1
    assert done.err.startswith("https://plugins.test/a.wasm names no sha256") and done.err.count("\n") == 1
    # What a command line cannot do comes last.
    assert "add #sha256=… to it (asgi-wasm inspect" in done.err


@pytest.mark.usefixtures("files")
def test_json_has_the_sentence() -> None:
    for command in ("inspect", "request", "bench"):
        done = run(command, "none.wasm", "--json", cwd=Path())
        assert json.loads(done.out)["error"] + "\n" == done.err


@pytest.mark.usefixtures("files")
def test_each_file_of_several_is_told() -> None:
    done = run("run", "none.wasm", "asgi_wasm:fault_injection", "folder", cwd=Path())
    assert done.err == (
        "no such file: none.wasm: build the plugin first, or check the path\n"
        "folder is a folder: give the .wasm file in it\n"
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.usefixtures("files")
def test_a_pipe_is_not_waited_for() -> None:
    os.mkfifo("pipe.wasm")
    with pytest.raises(SettingsError, match=r"^pipe\.wasm is a pipe or device: give a \.wasm file$"):
        plugin_file("pipe.wasm")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
@pytest.mark.usefixtures("files")
def test_a_file_that_is_not_to_be_read() -> None:
    Path("bare.wasm").chmod(0)
    with pytest.raises(SettingsError, match=r"^bare\.wasm cannot be read \(Permission denied\)"):
        plugin_file("bare.wasm")
