"""Which host function satisfies which import: the same rules, and the same words, for every engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asgi_wasm.engines.base import HostFunction, Import
from asgi_wasm.errors import LinkError


def find_functions(imports: Sequence[Import], functions: Mapping[tuple[str, str], HostFunction]) -> list[HostFunction]:
    """One host function per import, in the order of the imports. Raises `LinkError`."""
    return [_find(each, functions) for each in imports]


def _find(imported: Import, functions: Mapping[tuple[str, str], HostFunction]) -> HostFunction:
    name = f"{imported.module}.{imported.name}"
    if imported.type is None:
        raise LinkError(f"import {name} is a {imported.kind}, but only functions can be given")
    if len(imported.type.results) > 1:
        raise LinkError(f"import {name} has several results: {imported.type}")
    function = functions.get((imported.module, imported.name))
    if function is None:
        raise LinkError(f"import {name} {imported.type} is unknown to this host")
    return function
