"""Packages of our extras that not every Python has, and why tests that need them are skipped."""

from __future__ import annotations

import importlib
import platform

from asgi_wasm.accelerator import AcceleratorError, load


def why_not(module: str) -> str:
    """Why the module cannot be used here, for a skip; "" where it can."""
    try:
        importlib.import_module(module)
    except Exception as error:  # lmdb without its compiled part raises an Exception
        python = f"{platform.python_implementation()} {platform.python_version()}"
        return f"the package of module {module} has no wheel for {python} that works ({type(error).__name__})"
    return ""


LMDB_MISSING = why_not("lmdb")


def why_no_accelerator() -> str:
    """Why there is no accelerator here, for a skip; "" where there is."""
    try:
        load()
    except AcceleratorError as error:
        return f"there is no accelerator: {error}"
    return ""


NO_ACCELERATOR = why_no_accelerator()
