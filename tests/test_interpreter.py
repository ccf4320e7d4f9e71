"""Interpreters that cannot run plugins are refused when the package is imported."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from asgi_wasm import interpreter

ROOT = Path(__file__).parent.parent

IN_A_SUB_INTERPRETER = """
import importlib, sys
interpreters = importlib.import_module(sys.argv[1])
run = getattr(interpreters, "run_string", None) or interpreters.exec
made = interpreters.create()
run(made, '''
try:
    import asgi_wasm
except ImportError as error:
    print(error, flush=True)
''')
interpreters.destroy(made)
"""


def interpreters_module() -> str:
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        return name
    pytest.skip("this Python has no sub-interpreters")


def test_a_sub_interpreter_is_refused() -> None:
    command = [sys.executable, "-c", IN_A_SUB_INTERPRETER, interpreters_module()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    assert done.stdout.startswith("asgi-wasm does not run in a sub-interpreter, ")
    assert "in the main interpreter" in done.stdout and len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(("enabled", "refused"), [(False, True), (True, False)])
def test_python_without_the_gil_is_refused(enabled: bool, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: enabled, raising=False)
    if not refused:
        interpreter.refuse_unfit()
        return
    with pytest.raises(ImportError, match=r"free-threaded Python without the GIL.*: set PYTHON_GIL=1"):
        interpreter.refuse_unfit()
