"""No plugin is older than its sources, and none tells of the machine it was built on."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
WASM = sorted(PLUGINS.glob("*/*.wasm"))


def load_build_script() -> ModuleType:
    loader = SourceFileLoader("plugins_build", str(PLUGINS / "build"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module  # dataclasses look their module up
    # The script has no suffix, and its cache would lie beside it.
    dont_write, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = dont_write
    return module


build = load_build_script()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    copy = tmp_path / "plugins"
    shutil.copytree(PLUGINS, copy, ignore=shutil.ignore_patterns("target", "node_modules"))
    return copy


def test_every_plugin_is_as_its_sources_are() -> None:
    assert build.check(PLUGINS) == []


def test_every_plugin_has_a_source_and_an_entry() -> None:
    names = [target.name for target in build.find_targets(PLUGINS)]
    assert names == sorted(json.loads((PLUGINS / "manifest.json").read_text()))
    assert [PLUGINS / f"{name}.wasm" for name in names] == WASM


@pytest.mark.parametrize(
    ("source", "stale"),
    [
        ("fault_injection/rust/src/lib.rs", ["fault_injection/rust"]),
        ("body/go/go.mod", ["body/go"]),
        ("counter/assemblyscript/package.json", ["counter/assemblyscript"]),
        ("lifecycle/c/plugin.c", ["lifecycle/abi_0_1_0", "lifecycle/abi_0_2_0", "lifecycle/abi_0_2_1"]),
    ],
)
def test_a_changed_source_is_noticed(tree: Path, source: str, stale: list[str]) -> None:
    with (tree / source).open("a") as file:
        file.write("\n")
    assert [sentence.split(":")[0] for sentence in build.check(tree)] == stale


def test_a_changed_header_makes_every_c_plugin_stale(tree: Path) -> None:
    with (tree / "include" / "proxy_wasm.h").open("a") as file:
        file.write("\n")
    stale = {sentence.split(":")[0] for sentence in build.check(tree)}
    assert stale == {target.name for target in build.find_targets(tree) if target.language == "c"}


def test_a_new_source_file_is_noticed(tree: Path) -> None:
    (tree / "trailers" / "c" / "more.c").write_text("")
    assert [sentence.split(":")[0] for sentence in build.check(tree)] == ["trailers/c"]


@pytest.mark.parametrize("leftover", ["target/x", "node_modules/x", "Cargo.lock", ".cache/x"])
def test_what_a_build_leaves_behind_is_no_source(tree: Path, leftover: str) -> None:
    path = tree / "headers" / "rust" / leftover
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    assert build.check(tree) == []


def test_a_changed_wasm_is_noticed(tree: Path) -> None:
    (tree / "trailers" / "c.wasm").write_bytes(b"\0asm\1\0\0\0")
    assert build.check(tree) == ["trailers/c.wasm is not the file that was built: run plugins/build trailers/c"]


def test_a_missing_wasm_is_noticed(tree: Path) -> None:
    (tree / "trailers" / "c.wasm").unlink()
    assert build.check(tree) == ["trailers/c.wasm is missing: run plugins/build trailers/c"]


def test_a_wasm_without_sources_is_noticed(tree: Path) -> None:
    shutil.rmtree(tree / "trailers" / "c")
    assert build.check(tree) == [
        "trailers/c has no sources any more, but stands in the manifest",
        "trailers/c.wasm has no sources",
    ]


def test_the_command_fails_and_names_what_is_stale(tree: Path) -> None:
    command = [sys.executable, str(tree / "build"), "--check"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0

    (tree / "headers" / "rust" / "src" / "lib.rs").write_text("// nothing\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "headers/rust: its sources changed" in done.stderr


@pytest.mark.parametrize("wasm", WASM, ids=lambda path: str(path.relative_to(PLUGINS)))
def test_no_plugin_tells_where_it_was_built(wasm: Path) -> None:
    told = build.machine_paths(wasm.read_bytes())
    assert told == []


@pytest.mark.parametrize("text", ["/home/somebody/x.rs", "/root/.cargo/y", "/tmp/z"])
def test_a_path_would_be_found(text: str) -> None:
    for encoded in (text.encode(), text.encode("utf-16-le")):
        for padding in (b"", b"\1"):
            assert build.machine_paths(b"\0asm" + padding + encoded) != []
