"""Which interpreters can run this package: the main one of a Python with the GIL. Importing this refuses others."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def refuse_unfit() -> None:
    """Raise `ImportError`, in one sentence, in a sub-interpreter and where Python runs without the GIL."""
    if _in_sub_interpreter():
        raise ImportError(
            "asgi-wasm does not run in a sub-interpreter, since wasmtime calls back into the main one only: run the app"
            " in the main interpreter (mod_wsgi: WSGIApplicationGroup %{GLOBAL})"
        )
    if not _has_gil():
        raise ImportError(
            "asgi-wasm does not run on free-threaded Python without the GIL, on which its calls into plugins were never"
            " proven: set PYTHON_GIL=1, or use the ordinary build"
        )


def _in_sub_interpreter() -> bool:
    for name in ("_interpreters", "_xxsubinterpreters"):  # since CPython 3.13, before
        try:
            interpreters = importlib.import_module(name)
        except ImportError:
            continue
        return bool(_number(interpreters.get_current()) != _number(interpreters.get_main()))
    return False


def _number(interpreter: Any) -> int:
    # CPython 3.13 and later add where the interpreter came from.
    return int(interpreter[0] if isinstance(interpreter, tuple) else interpreter)


def _has_gil() -> bool:
    is_enabled = getattr(sys, "_is_gil_enabled", None)
    return is_enabled is None or bool(is_enabled())


refuse_unfit()
