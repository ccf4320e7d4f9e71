"""`asgi-wasm inspect` on real plugins, and on broken ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import wasmtime

from tests.cli.running import PLUGINS, run


@pytest.mark.parametrize(
    ("plugin", "version", "language", "sdk"),
    [
        ("fault_injection/rust", "0.2.1", "Rust", "proxy-wasm 0.2."),
        ("fault_injection/go", "0.2.0", "Go go1.", "github.com/proxy-wasm/proxy-wasm-go-sdk v0."),
        ("fault_injection/assemblyscript", "0.2.1", "AssemblyScript", ""),
        ("lifecycle/abi_0_1_0", "0.1.0", "unknown", ""),
    ],
)
def test_a_plugin_of_each_language(tmp_path: Path, plugin: str, version: str, language: str, sdk: str) -> None:
    done = run("inspect", PLUGINS / f"{plugin}.wasm", "--json", cwd=tmp_path)
    report = json.loads(done.out)
    assert done.status == 0
    assert report["abi_version"] == version
    assert report["language"].startswith(language)
    assert report["sdk"].startswith(sdk)
    assert report["size"] == (PLUGINS / f"{plugin}.wasm").stat().st_size
    assert report["unknown_imports"] == []
    assert report["memory_initial"] % 65536 == 0 < report["memory_initial"]


def test_what_it_can_do(tmp_path: Path) -> None:
    report = json.loads(run("inspect", PLUGINS / "callouts" / "c.wasm", "--json", cwd=tmp_path).out)
    assert "makes HTTP calls" in report["abilities"]
    assert "makes gRPC calls" not in report["abilities"]
    text = run("inspect", PLUGINS / "callouts" / "c.wasm", cwd=tmp_path).out
    assert "makes HTTP calls" in text and "proxy_on_request_headers" in text


def test_a_pipe_gets_each_field_on_one_line(tmp_path: Path) -> None:
    """However long it is: what is cut into lines cannot be searched, nor copied."""
    shutil.copy(PLUGINS / "callouts" / "c.wasm", file := tmp_path / f"{'long' * 40}.wasm")
    lines = run("inspect", file, cwd=tmp_path).out.splitlines()
    assert f"file         {file}" in lines
    assert [text for text in lines if text != text.rstrip()] == []
    (tmp_path / "some.yaml").write_text(json.dumps({"plugins": [{"name": "p", "file": str(file)}]}))
    rows = run("check", "some.yaml", "--no-start", cwd=tmp_path).out.splitlines()
    assert rows[0].split() == ["plugin", "priority", "state", "sha256", "file"]
    assert rows[1].split()[:3] == ["p", "0", "readable"] and rows[1].endswith(str(file))


def wat(imports: str) -> bytes:
    return bytes(
        wasmtime.wat2wasm(
            f'(module {imports} (memory (export "memory") 2 9) (func (export "proxy_abi_version_0_2_1"))'
            ' (func (export "malloc") (param i32) (result i32) (i32.const 0)))'
        )
    )


def test_imports_that_nobody_has(tmp_path: Path) -> None:
    file = tmp_path / "vendor.wasm"
    file.write_bytes(wat('(import "vendor" "call" (func)) (import "wasi_unstable" "sock_open" (func))'))
    report = json.loads(run("inspect", file, "--json", cwd=tmp_path).out)
    assert report["unknown_imports"] == ["vendor.call", "wasi_unstable.sock_open"]
    assert (report["memory_initial"], report["memory_max"]) == (2 * 65536, 9 * 65536)
    assert "import vendor.call ABI 0.2.1 does not have it" in run("inspect", file, cwd=tmp_path).out


def test_an_import_of_another_type_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "odd.wasm"
    file.write_bytes(wat('(import "env" "proxy_log" (func (param i32)))'))
    done = run("inspect", file, cwd=tmp_path)
    assert done.status == 1
    assert "import env.proxy_log has type (i32) -> ()" in done.out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"#!/bin/sh", "no WebAssembly file"),
        (b"\0asm\1\0\0\0\xff", "plugin 'x' (x.wasm)"),
        (wasmtime.wat2wasm("(module)"), "exports no proxy_abi_version_* function"),
    ],
)
def test_what_is_no_plugin_gets_one_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.wasm").write_bytes(content)
    done = run("inspect", "x.wasm", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert words in done.err and done.err.count("\n") == 1


def test_a_producers_section_that_anybody_wrote(tmp_path: Path) -> None:
    (tmp_path / "x.wasm").write_bytes(wat("") + b"\0\x0c\x09producers\x7f\xff")
    assert json.loads(run("inspect", "x.wasm", "--json", cwd=tmp_path).out)["built_by"] == []
