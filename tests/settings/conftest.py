"""An empty working directory, with two files that begin as WebAssembly does, and an environment without our names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

WASM = b"\0asm\1\0\0\0"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("ASGI_WASM_"):
            monkeypatch.delenv(name)
    (tmp_path / "waf.wasm").write_bytes(WASM)
    (tmp_path / "auth.wasm").write_bytes(WASM)
    return tmp_path
