"""The line of a settings file in which a key stands, so that an editor or CI can point there.

A key is as mistakes name it (``plugins.waf.conf``, ``routes[0].uri``); the line is that of the deepest part of it that
the file has. TOML's parser tells no places: a key stands on the first line with which the file's beginning has it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from asgi_wasm.errors import SettingsError
from asgi_wasm.settings import names
from asgi_wasm.settings.files import decode, read_bytes
from asgi_wasm.settings.sources import table, toml

# How a table, or a key, begins in TOML.
_BEGINS = re.compile(r"\[|[\w.\-\"' ]+=")
_MOST_TRIES = 200
_ALIASES = (names.PLUGIN, names.METRICS, names.TAG_RULE, names.ROUTE)


class _TooManyTriesError(Exception):
    """What begins somewhere ends nobody knows where."""


def line_of(file: Path, key: str) -> int | None:
    """From 1; None where it cannot be told."""
    if file.suffix == ".toml":
        return _line_in_toml(file, key)
    if file.suffix not in (".yaml", ".yml"):
        return None
    try:
        node = yaml.compose(decode(read_bytes(file), file.name), Loader=yaml.SafeLoader)
    except (SettingsError, yaml.YAMLError, RecursionError):
        return None
    if isinstance(node, yaml.MappingNode) and not key.startswith("wasm"):
        # APISIX's own file has its plugins one level down.
        node = next((value for name, value in node.value if name.value == "wasm" and key.startswith("plugins")), node)
    return None if node is None else _descend(node, key)


def _line_in_toml(file: Path, key: str) -> int | None:
    try:
        lines = decode(read_bytes(file), file.name).splitlines(keepends=True)
    except SettingsError:
        return None
    # Only there may end what begins before: each end that is tried costs the time of reading all before it.
    ends = [*(index for index, line in enumerate(lines) if _BEGINS.match(line.lstrip())), len(lines)]
    tried: dict[int, int | None] = {}

    def depth(count: int) -> int:
        """That of the key in so many lines, and those that end what they begin."""
        for end in ends[bisect_left(ends, count) :]:
            if end not in tried:
                if len(tried) == _MOST_TRIES:
                    raise _TooManyTriesError
                tried[end] = None
                with suppress(ValueError, RecursionError):
                    data: Any = toml.loads("".join(lines[:end]))
                    tried[end] = _depth(table(data) if file.name == "pyproject.toml" else data, key)
            if (found := tried[end]) is not None:
                return found
        return 0

    try:
        whole = depth(len(lines))
        return bisect_left(range(len(lines)), whole, key=depth) if whole else None
    except _TooManyTriesError:
        return None


def _depth(data: Any, key: str) -> int:
    """How many characters of the key the data has."""
    rest = key
    while rest:
        found = next(iter(_under(data, rest)), None)
        if found is None:
            break
        data, rest = found
    return len(key) - len(rest)


def _under(data: Any, key: str) -> list[tuple[Any, str]]:
    """The value of the first part of a key, and the rest of it."""
    if isinstance(data, dict):
        parts = [(spelled, data[name]) for name in sorted(data, key=len, reverse=True) for spelled in _spellings(name)]
    else:
        parts = [(f"[{index}]", item) for index, item in enumerate(data if isinstance(data, list) else ())]
        parts += [(str(item.get("name", "")), item) for _, item in parts if isinstance(item, dict)]
    return [(value, rest) for part, value in parts if (rest := _rest(key, part)) is not None]


def _descend(node: yaml.Node, key: str) -> int | None:
    line: int | None = None
    while key:
        found = _step(node, key)
        if found is None:
            break
        place, node, key = found
        line = place.start_mark.line + 1
    return line


def _step(node: yaml.Node, key: str) -> tuple[yaml.Node, yaml.Node, str] | None:
    """Where the first part of the key stands, its value, and the rest of the key."""
    if isinstance(node, yaml.MappingNode):
        # The longest first: names may have dots in them.
        for name, value in sorted(node.value, key=lambda pair: -len(str(pair[0].value))):
            for spelled in _spellings(str(name.value)):
                if (rest := _rest(key, spelled)) is not None:
                    return name, value, rest
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            if (rest := _rest(key, f"[{index}]")) is None:
                rest = _rest(key, _name_of(item))
            if rest is not None:
                return item, item, rest
    return None


def _spellings(name: str) -> list[str]:
    return [name, *(aliases[name] for aliases in _ALIASES if name in aliases)]


def _name_of(item: yaml.Node) -> str:
    """The name by which an entry of a list is called."""
    if not isinstance(item, yaml.MappingNode):
        return ""
    fields = {str(key.value): value for key, value in item.value}
    return next((str(fields[key].value) for key in ("name", "plugin_name", "pluginName") if key in fields), "")


def _rest(key: str, part: str) -> str | None:
    if not part or not key.startswith(part):
        return None
    rest = key[len(part) :]
    return rest.removeprefix(".") if not rest or rest[0] in ".[" else None
