from __future__ import annotations

import subprocess
import sys

import pytest

from asgi_wasm.engines import create_engine
from asgi_wasm.errors import EngineUnavailableError, SettingsError


@pytest.mark.parametrize("name", ["auto", "wasmtime"])
def test_auto_is_wasmtime(name: str) -> None:
    assert create_engine(name).name == "wasmtime"


def test_an_unknown_engine_is_answered_with_the_choices() -> None:
    with pytest.raises(SettingsError, match=r"'v8' is unknown: choose one of 'auto', 'wasmtime', 'wasmer'"):
        create_engine("v8")


def test_nothing_is_imported_before_an_engine_is_asked_for() -> None:
    code = "import sys, asgi_wasm.engines; sys.exit('wasmtime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_wasmtime_that_cannot_be_loaded_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asgi_wasm.engines.wasmtime", None)
    with pytest.raises(EngineUnavailableError, match="wasmtime cannot be loaded"):
        create_engine()
