"""What options say: headers, plugins' confs, upstreams, apps. Each mistake is one sentence."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asgi_wasm import bundled
from asgi_wasm.errors import PluginStartError, SettingsError
from asgi_wasm.fetching import names as fetched
from asgi_wasm.specs import RemoteFile

_STDIN_OR_FILE = "@"


def header(text: str) -> tuple[str, str]:
    """``Name: value``, as curl's ``-H``. Raises `SettingsError`."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise SettingsError(f"header {text!r} is none: write 'name: value'")
    return name.strip(), value.strip()


def content(text: str) -> bytes:
    """A body, or after ``@`` the file that has it, as curl's ``-d``. Raises `SettingsError`."""
    if not text.startswith(_STDIN_OR_FILE):
        return text.encode("utf-8", "surrogateescape")
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise SettingsError(f"body {text!r}: the file cannot be read: {error.strerror or error}") from None


def conf(text: str) -> str:
    """A plugin's configuration, or after ``@`` the file that has it. Raises `SettingsError`."""
    try:
        return content(text).decode("utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"conf {text!r}: the file is no UTF-8") from None


@contextmanager
def missing_conf_told(without: Collection[str]) -> Iterator[None]:
    """The refused start of a plugin that was given no conf (``without`` has their names) tells how to give one."""
    try:
        yield
    except PluginStartError as error:
        if error.plugin not in without or not error.problem.startswith("on_configure "):
            raise
        raise PluginStartError(error.plugin, error.file, f"{error.problem}; give it one with --conf") from error


def pair(text: str, what: str) -> tuple[str, str]:
    """``NAME=VALUE``. Raises `SettingsError`."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SettingsError(f"{what} {text!r} is none: write NAME=VALUE")
    return name, value


def plugins(files: Sequence[str], confs: Sequence[str], root_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Entries of the plugin list: the first conf is the first file's, and so on. Raises `SettingsError`."""
    for name, values in (("--conf", confs), ("--root-id", root_ids)):
        if len(values) > len(files):
            raise SettingsError(f"{name} is given {len(values)} times for {len(files)} plugins: give it once for each")
    found: list[dict[str, Any]] = []
    for index, file in enumerate(files):
        name = plugin_name(file)
        taken = {entry["name"] for entry in found}
        entry: dict[str, Any] = {
            "name": name if name not in taken else f"{name}-{index + 1}",
            "file": file,
            # The first runs first.
            "priority": len(files) - index,
        }
        if index < len(confs):
            entry["conf"] = conf(confs[index])
        if index < len(root_ids):
            entry["root_id"] = root_ids[index]
        found.append(entry)
    return found


def plugin_file(file: str | Path, *, pinned: bool = True) -> Path | RemoteFile:
    """A path, a plugin of the package's, or one to fetch, which must name its sha256 unless ``pinned`` is False.

    Raises `SettingsError`.
    """
    try:
        if fetched.is_remote(file):
            return fetched.parse(str(file), pinned=pinned)
        return bundled.find(file)
    except ValueError as error:
        said = str(error)
        raise SettingsError(said if bundled.is_bundled(file) else f"the plugin's name {said}") from None


def plugin_name(file: str) -> str:
    """What a plugin is called that was given by its file alone."""
    stem = fetched.short_name(file) if fetched.is_remote(file) else Path(file).stem.rpartition(":")[2]
    return "".join(char if (char.isalnum() and char.isascii()) or char in "._-" else "_" for char in stem) or "plugin"


def json_or_text(text: str) -> Any:
    """JSON where it is JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text
