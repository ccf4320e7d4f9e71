"""`python -m asgi_wasm compile`, in this process; `tests/engines/test_herd.py` tries what it is for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asgi_wasm.cli import main
from tests.plugins.conftest import PLUGINS


def settings(folder: Path, **plugin: str) -> str:
    path = folder / "asgi-wasm.yaml"
    entry = {"name": "p", "file": str(PLUGINS / "headers" / "c.wasm"), **plugin}
    path.write_text(json.dumps({"plugins": [entry], "cache_dir": str(folder / "cache")}))
    return str(path)


def test_it_compiles_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = settings(tmp_path)
    assert main(["compile", file]) == 0
    assert capsys.readouterr().out.endswith("c.wasm): compiled\n")
    assert main(["compile", file]) == 0
    assert capsys.readouterr().out.endswith("c.wasm): was compiled before\n")


def test_a_plugin_that_cannot_be_compiled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.wasm").write_bytes(b"\0asm\1\0\0\0\xff")
    assert main(["compile", settings(tmp_path, file="bad.wasm")]) == 1
    assert "plugin 'p'" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = settings(tmp_path)
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert main(["compile", file]) == 1
    assert "the cache did not keep it" in capsys.readouterr().err


def test_settings_that_are_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(tmp_path / "none.yaml")]) == 1
    assert "none.yaml does not exist" in capsys.readouterr().err
