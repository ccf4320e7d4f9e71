"""Public names of a package that are looked up when they are first asked for (PEP 562)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def names_in(
    namespace: dict[str, Any], places: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of the package with this ``namespace``; ``places`` are the names' modules."""
    package: str = namespace["__name__"]

    def find(name: str) -> object:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(places[name]), name)
        namespace[name] = value
        return value

    return find, lambda: sorted({*namespace, *places})
