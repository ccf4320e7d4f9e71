"""Where settings come from. Each source becomes one `Source`, so that a mistake can be blamed on the right one."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from asgi_wasm.errors import Mistake, SettingsError
from asgi_wasm.settings.dotenv import read_dotenv
from asgi_wasm.settings.files import decode, is_there, read_bytes, shown

# The standard library's since 3.11; the package tomli is the same for 3.10.
toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

PREFIX = "ASGI_WASM_"
FILE_VARIABLE = "ASGI_WASM_CONFIG"
_FILES = ("asgi-wasm.yaml", "asgi-wasm.yml", "asgi-wasm.toml")
# What Kubernetes puts into each pod's environment for a service that is called asgi-wasm.
_OF_KUBERNETES = re.compile(
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
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


def read_all(path: Path | None = None) -> Iterator[Source]:
    """Environment, `.env`, then ``path`` or the usual files; the first to name a key wins.

    Raises `SettingsError` for a file that is missing, ambiguous or malformed.
    """
    here = Path.cwd()
    yield Source("the environment", _from_variables(os.environ, "environment variable"), here, True)
    dotenv = {}
    if is_there(here / ".env"):
        dotenv = read_dotenv(here / ".env", PREFIX)
        yield Source(".env", _from_variables(dotenv, ".env:"), here, True, here / ".env")
    if path is not None:
        yield read_file(path)
        return
    named = _named_file(os.environ) or _named_file(dotenv)
    found = [Path(named)] if named else [here / name for name in _FILES if is_there(here / name)]
    if len(found) > 1:
        raise SettingsError(f"{found[0].name} and {found[1].name} both exist: keep one of them")
    if found:
        yield read_file(found[0], because=f" (named by {FILE_VARIABLE})" if named else "")
    if is_there(here / "pyproject.toml"):
        yield _pyproject(here / "pyproject.toml")


def _named_file(variables: Mapping[str, str]) -> str | None:
    return next((value for name, value in variables.items() if name.upper() == FILE_VARIABLE and value), None)


def read_file(path: Path, because: str = "") -> Source:
    """A YAML or TOML file. Raises `SettingsError`."""
    text = decode(read_bytes(path, because), path.name)
    return Source(shown(path.name), _parsed(text, path), path.resolve().parent, file=path.absolute())


def _parsed(text: str, path: Path) -> Mapping[str, Any]:
    name = shown(path.name)
    try:
        if path.suffix == ".toml":
            return dict(toml.loads(text))
        if (twice := _key_twice(text)) is not None:
            raise SettingsError(f"{name}: {twice} is there twice: keep one of them")
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise _malformed(name, path, error) from None
    except RecursionError:
        raise SettingsError(f"{name}: cannot be read: it is nested too deeply") from None
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise SettingsError(f"{name}: must be a mapping of settings by name")
    return data


def _malformed(name: str, path: Path, error: Exception) -> SettingsError:
    problem = _position(error)
    mistake = Mistake(name, "", f"cannot be read: {problem}", path.absolute(), _line(error))
    return SettingsError(f"{name}: {mistake.problem}", (mistake,))


def _line(error: Exception) -> int | None:
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return int(mark.line) + 1
    found = re.search(r"at line (\d+)", str(error))
    return int(found[1]) if found else None


def _position(error: Exception) -> str:
    """What is wrong and where, without the text there: it may be a secret."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        problem = getattr(error, "problem", None) or "it is malformed"
        return shown(f"line {mark.line + 1}, column {mark.column + 1}: {problem}")
    return shown(" ".join(str(error).split()))


def _key_twice(text: str) -> str | None:
    """The place and name of a key that a YAML mapping has twice.

    YAML forbids it, and PyYAML takes the last one: plugins would be missing without a word.
    """
    nodes = [yaml.compose(text, Loader=yaml.SafeLoader)]
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
    text = decode(read_bytes(path), path.name)
    try:
        data: Any = toml.loads(text)
    except (ValueError, RecursionError) as error:
        raise _malformed("pyproject.toml", path, error) from None
    data = table(data)
    if not isinstance(data, dict):
        raise SettingsError(f"pyproject.toml: [{'.'.join(_TABLE)}] must be a table")
    return Source("pyproject.toml [tool.asgi-wasm]", data, path.parent, file=path)


def table(data: Any) -> Any:
    """Ours of a pyproject.toml; empty where it has none."""
    for key in _TABLE:
        data = data.get(key, {}) if isinstance(data, dict) else {}
    return data


def _from_variables(variables: Mapping[str, str], kind: str) -> dict[str, Any]:
    """``ASGI_WASM_PLUGINS__waf__PRIORITY=10`` as nested mappings.

    Why not by pydantic-settings: `DECISIONS.md`. Raises `SettingsError` for JSON that is none.
    """
    result: dict[str, Any] = {}
    spelled: dict[tuple[str, ...], str] = {}
    # Sorted, so that ASGI_WASM_PLUGINS comes before ASGI_WASM_PLUGINS__waf__….
    for name in sorted(variables):
        if not name.upper().startswith(PREFIX) or name.upper() == FILE_VARIABLE:
            continue
        if _OF_KUBERNETES.fullmatch(name[len(PREFIX) :]):
            continue
        parts = _parts(name[len(PREFIX) :])
        where = f"{kind} {shown(name)}"
        if (other := spelled.setdefault(tuple(parts), name)) != name:
            raise SettingsError(f"{where}: is the same setting as {shown(other)}: keep one of them")
        _put(result, parts, _value(variables[name], parts, where), where)
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
                raise SettingsError(f"{where}: {shown(key)!r} is there twice: keep one of them")
            result[key] = value
        return result

    try:
        return json.loads(text, object_pairs_hook=distinct)
    except ValueError as error:
        raise SettingsError(f"{where}: is no JSON: {error}") from None
    except RecursionError:
        raise SettingsError(f"{where}: is no JSON: it is nested too deeply") from None


def _put(target: dict[str, Any], parts: list[str], value: Any, where: str) -> None:
    for part in parts[:-1]:
        below = target.setdefault(part, {})
        if isinstance(below, list):
            below = target[part] = {str(item.get("name", index)): item for index, item in enumerate(below)}
        if not isinstance(below, dict):
            raise SettingsError(f"{where}: {shown(part)!r} has a value already, so nothing can be set inside of it")
        target = below
    target[parts[-1]] = value
