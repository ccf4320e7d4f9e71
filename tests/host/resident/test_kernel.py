"""The kernel trusts nothing that a plugin passes, and is what its sources make."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

import asgi_wasm.host.resident as room
from tests.host.resident.hostile import play

FOLDER = Path(room.__file__).parent


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_hostile_plugin_breaks_nothing(seed: int) -> None:
    stage = play(seed, 20_000)
    # All ways were taken: answered beside the plugin, by the host, and after what was lent.
    assert 100 < stage.slow < 18_000 and stage.filled > 10 and stage.given > 100 and stage.taken > 20


def _build_script() -> ModuleType:
    loader = SourceFileLoader("resident_build", str(FOLDER / "build"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # The script has no suffix, and its cache would lie beside it.
    dont_write, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = dont_write
    return module


build = _build_script()


def test_every_module_is_as_its_sources_are() -> None:
    assert build.check() == []


@pytest.mark.parametrize(("changed", "told"), [("layout.h", "kernel"), ("shim.wat", "shim"), ("patch.wasm", "patch")])
def test_one_that_is_older_than_a_source_is_told(tmp_path: Path, changed: str, told: str) -> None:
    copy = tmp_path / "resident"
    shutil.copytree(FOLDER, copy)
    (copy / changed).write_bytes((copy / changed).read_bytes() + b"\n")
    assert [line.partition(".")[0] for line in build.check(copy)] == [told]


def test_the_manifest_names_every_module() -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    assert set(manifest) == {path.stem for path in FOLDER.glob("*.wasm")}
