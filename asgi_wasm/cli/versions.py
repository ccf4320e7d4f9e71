"""``asgi-wasm --version``: what a report of a mistake should name."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from asgi_wasm.accelerator import find as find_accelerator


def versions() -> str:
    """One line: ours, the engine's, Python's, and whether the accelerator is there."""
    lane = "accelerator" if find_accelerator() is not None else "no accelerator"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"asgi-wasm {_of('asgi-wasm')} (wasmtime {_of('wasmtime')}, {lane}, {python}, {platform.platform()})"


def _of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        # Run from its sources, say.
        return "unknown"
