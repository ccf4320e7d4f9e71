"""Where settings come from. Each source becomes one `Source`, so that a mistake can be blamed on the right one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values
from pydantic_settings import (
    BaseSettings,
    PyprojectTomlConfigSettingsSource,
    TomlConfigSettingsSource,
    YamlConfigSettingsSource,
)

from asgi_wasm.errors import SettingsError

PREFIX = "ASGI_WASM_"
FILE_VARIABLE = "ASGI_WASM_CONFIG"
_FILES = ("asgi-wasm.yaml", "asgi-wasm.yml", "asgi-wasm.toml")
# How pydantic-settings fails on a file that is no mapping of words; the errors of YAML and TOML are others, and say the
# line.
_NO_MAPPING = (AttributeError, TypeError, ValueError)
_TABLE = ("tool", "asgi-wasm")
# Values under these keys are the plugin's own text: never parsed.
_VERBATIM = frozenset({"conf", "configuration", "vm_conf", "vm_configuration", "plugin_config"})
# Below these keys of a plugin or an upstream stand names that are not ours, with texts, or with anything in a conf.
_TEXTS_BELOW = frozenset({"env", "environment_variables", "headers"})
_NAMES_BELOW = _TEXTS_BELOW | _VERBATIM


@dataclass(frozen=True)
class Source:
    """What one source says. ``name`` is for messages; relative files are relative to ``folder``."""

    name: str
    data: Mapping[str, Any]
    folder: Path
    # Variables cannot spell every name: case and '-' or '_' do not count in them.
    loose_names: bool = False
    # What was read, if it was a file.
    file: Path | None = None


class _Empty(BaseSettings):
    """Lends its name to pydantic-settings' file sources, which want a settings class."""


def read_all(path: Path | None = None) -> Iterator[Source]:
    """Environment, `.env`, then ``path`` or the usual files; the first to name a key wins.

    Raises `SettingsError` for a file that is missing, ambiguous or malformed.
    """
    here = Path.cwd()
    yield Source("the environment", _from_variables(os.environ, "environment variable"), here, True)
    if (here / ".env").is_file():
        values = {name: value or "" for name, value in dotenv_values(here / ".env").items()}
        yield Source(".env", _from_variables(values, ".env:"), here, True, here / ".env")
    if path is not None:
        yield read_file(path)
        return
    named = os.environ.get(FILE_VARIABLE)
    found = [Path(named)] if named else [here / name for name in _FILES if (here / name).is_file()]
    if len(found) > 1:
        raise SettingsError(f"{found[0].name} and {found[1].name} both exist: keep one of them")
    if found:
        yield read_file(found[0], because=f" (named by {FILE_VARIABLE})" if named else "")
    if (here / "pyproject.toml").is_file():
        yield _pyproject(here / "pyproject.toml")


def read_file(path: Path, because: str = "") -> Source:
    """A YAML or TOML file. Raises `SettingsError`."""
    if not path.is_file():
        raise SettingsError(f"settings file {path}{because} does not exist")
    is_toml = path.suffix == ".toml"
    make = TomlConfigSettingsSource if is_toml else YamlConfigSettingsSource
    try:
        twice = None if is_toml else _key_twice(path)
        data = make(_Empty, path)()
    except Exception as error:
        if type(error) in _NO_MAPPING:
            raise SettingsError(f"{path.name}: must be a mapping of settings by name") from None
        raise SettingsError(f"{path.name}: cannot be read: {' '.join(str(error).split())}") from None
    if twice is not None:
        raise SettingsError(f"{path.name}: {twice} is there twice: keep one of them")
    return Source(path.name, data, path.resolve().parent, file=path.absolute())


def _key_twice(path: Path) -> str | None:
    """The place and name of a key that a YAML mapping has twice.

    YAML forbids it, and PyYAML takes the last one: plugins would be missing without a word.
    """
    with path.open("rb") as stream:
        nodes = [yaml.compose(stream, Loader=yaml.SafeLoader)]
    # An anchor may be met from many places, and from inside of itself.
    met: set[int] = set()
    while nodes:
        node = nodes.pop()
        if id(node) in met:
            continue
        met.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                nodes.append(value)
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    return f"line {key.start_mark.line + 1}: {key.value!r}"
                seen.add(str(key.value))
    return None


def _pyproject(path: Path) -> Source:
    class Table(BaseSettings):
        model_config = {"pyproject_toml_table_header": _TABLE}

    try:
        data = PyprojectTomlConfigSettingsSource(Table, path)()
    except Exception as error:
        raise SettingsError(f"pyproject.toml: cannot be read: {' '.join(str(error).split())}") from None
    return Source("pyproject.toml [tool.asgi-wasm]", data, path.parent, file=path)


def _from_variables(variables: Mapping[str, str], kind: str) -> dict[str, Any]:
    """``ASGI_WASM_PLUGINS__waf__PRIORITY=10`` as nested mappings.

    pydantic-settings' own source lowers the case of every part, a plugin's name included, and parses a ``conf`` that
    looks like JSON; hence this one. Raises `SettingsError` for JSON that is none.
    """
    result: dict[str, Any] = {}
    # Sorted, so that ASGI_WASM_PLUGINS comes before ASGI_WASM_PLUGINS__waf__….
    for name in sorted(variables):
        if not name.upper().startswith(PREFIX) or name.upper() == FILE_VARIABLE:
            continue
        parts = _parts(name[len(PREFIX) :])
        value = _value(variables[name], parts, f"{kind} {name}")
        _put(result, parts, value, f"{kind} {name}")
    return result


def _parts(name: str) -> list[str]:
    """The keys that a variable names: in lower case, but for names that are not ours."""
    parts: list[str] = []
    for part in name.split("__"):
        is_name = parts in (["plugins"], ["upstreams"]) or not _NAMES_BELOW.isdisjoint(parts[2:3])
        parts.append(part if is_name else part.lower())
    return parts


def _value(text: str, parts: Sequence[str], where: str) -> Any:
    is_text = parts[-1] in _VERBATIM or not _TEXTS_BELOW.isdisjoint(parts[2:-1])
    if is_text or not text.lstrip().startswith(("[", "{")):
        return text

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise SettingsError(f"{where}: {key!r} is there twice: keep one of them")
            result[key] = value
        return result

    try:
        return json.loads(text, object_pairs_hook=distinct)
    except ValueError as error:
        raise SettingsError(f"{where}: is no JSON: {error}") from None


def _put(target: dict[str, Any], parts: list[str], value: Any, where: str) -> None:
    for part in parts[:-1]:
        below = target.setdefault(part, {})
        if isinstance(below, list):
            below = target[part] = {str(item.get("name", index)): item for index, item in enumerate(below)}
        if not isinstance(below, dict):
            raise SettingsError(f"{where}: {part!r} has a value already, so nothing can be set inside of it")
        target = below
    target[parts[-1]] = value
