"""The lane's Python in C, where it was built: an optional extension module with the stable ABI.

Nothing depends on it: `asgi_wasm.asgi.lane.lent` does the same in Python, and is the reference.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, cast

from asgi_wasm.accelerator.sources import number
from asgi_wasm.errors import AsgiWasmError
from asgi_wasm.host.resident.layout import SIZE

if TYPE_CHECKING:
    from asgi_wasm.host.resident.native import Accelerator

MODULE = "asgi_wasm.accelerator._accelerator"


class AcceleratorError(AsgiWasmError):
    """There is no accelerator here, and why."""


class StaleAcceleratorError(AcceleratorError):
    """There is one, of other sources: something for a user to mend."""


def load() -> Accelerator:
    """The accelerator. Raises `AcceleratorError`, which says in a few words why there is none."""
    if sys.implementation.name != "cpython":
        raise AcceleratorError(f"it is CPython's, and this is {sys.implementation.name}")
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise AcceleratorError("it is not proven without the global interpreter lock")
    try:
        module = cast("Accelerator", importlib.import_module(MODULE))
    except ImportError as error:
        raise AcceleratorError("it was not built, for want of a C compiler or a wheel for this platform") from error
    if not _is_of_these_sources(module):
        raise StaleAcceleratorError("it was built from other sources than these: install asgi-wasm again")
    return module


def find() -> Accelerator | None:
    """The accelerator, for who does without it where there is none."""
    try:
        return load()
    except AcceleratorError:
        return None


def _is_of_these_sources(module: Accelerator) -> bool:
    if getattr(module, "WINDOW_SIZE", None) != SIZE:
        return False
    expected = number()
    # Where there are no sources, there is nobody who changes them.
    return expected is None or getattr(module, "SOURCES", None) == expected
