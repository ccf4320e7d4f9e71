"""How the wasmer engine says that it cannot be had."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from wasmtime import _ffi as ffi

from asgi_wasm.engines import create_engine
from asgi_wasm.engines.libwasmer import LibwasmerEngine
from asgi_wasm.errors import EngineUnavailableError
from tests.extras import why_not
from tests.serving import ROOT


@pytest.fixture(autouse=True)
def _no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.engines.libwasmer.api._places", lambda named: [str(named)] if named else [])


wasmer = importlib.import_module("asgi_wasm.engines.wasmer")


def test_a_newer_python_is_told_why_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasmer, "NEWEST_PYTHON", (3, 9))
    with pytest.raises(
        EngineUnavailableError, match=r'up to 3\.10 and this .*: set engine = "wasmtime", or install libwasmer'
    ) as caught:
        create_engine("wasmer")
    assert "\n" not in str(caught.value)


def test_a_python_that_could_have_it_is_told_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasmer, "NEWEST_PYTHON", sys.version_info[:2])
    monkeypatch.setitem(sys.modules, "wasmer", None)
    with pytest.raises(EngineUnavailableError, match=r"pip install 'asgi-wasm\[wasmer\]'"):
        create_engine("wasmer")


@pytest.mark.skipif(sys.version_info[:2] <= (3, 10), reason="wasmer may be installed")
def test_this_python_has_no_wasmer() -> None:
    with pytest.raises(EngineUnavailableError):
        create_engine("wasmer")


TRAPS = """
import faulthandler
import wasmer
from asgi_wasm.engines import create_engine
from asgi_wasm.errors import TrapError

faulthandler.enable()
module = create_engine("wasmer").compile(wasmer.wat2wasm('(module (func (export "f") unreachable))'))
function = module.instantiate({}, memory_limit=1 << 20).function("f")
for _ in range(2):
    try:
        function()
    except TrapError:
        print("trap")
"""


def test_signal_handlers_that_come_before_it() -> None:
    """Those that come later are not survived, as `asgi_wasm/engines/README.md` says."""
    if why_not("wasmer_compiler_cranelift"):
        pytest.skip(why_not("wasmer_compiler_cranelift"))
    done = subprocess.run(
        [sys.executable, "-c", TRAPS], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "trap\ntrap\n"), done.stderr


def test_a_library_that_is_named_is_the_one(tmp_path: Path) -> None:
    """Whatever package there is."""
    (tmp_path / "libwasmer.so").write_bytes(b"nonsense")
    with pytest.raises(EngineUnavailableError, match=r"wasmer's library cannot be loaded: .*libwasmer"):
        create_engine("wasmer", wasmer_library=tmp_path / "libwasmer.so")


def test_another_library_is_told_from_wasmers() -> None:
    """The wheel of wasmtime has the standard's functions, and not those of wasmer."""
    with pytest.raises(EngineUnavailableError, match=r"is no libwasmer with metering \(.*: install Wasmer 7"):
        LibwasmerEngine(Path(str(ffi.dll._name)))
