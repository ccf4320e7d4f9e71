"""What options say: headers, bodies, plugins' confs, upstreams. Each mistake is one sentence, of what was typed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from asgi_wasm.cli.plugin_files import check_files, plugin_name
from asgi_wasm.errors import SettingsError
from asgi_wasm.http_syntax import FIELD_VALUE, MAX_STATUS, MIN_STATUS, TOKEN

_FILE = "@"
_ENGINES = ("auto", "wasmtime", "wasmer")
# Of a request's target; others are to be written in percent encoding.
_TARGET = re.compile(r"/[^\s#]*|\*")


def engine(name: str) -> str:
    """Which engine. Raises `SettingsError`."""
    if name not in _ENGINES:
        raise SettingsError(f"--engine {name!r}: choose {', '.join(_ENGINES[:-1])} or {_ENGINES[-1]}")
    return name


def header(text: str, what: str = "-H") -> tuple[str, str]:
    """``Name: value``, as curl's ``-H``. Raises `SettingsError`."""
    name, colon, value = text.partition(":")
    # Plugins see a field's bytes; a terminal types UTF-8.
    as_bytes = value.strip().encode("utf-8", "surrogateescape").decode("latin-1")
    if not colon or not re.fullmatch(TOKEN, name.strip()) or not re.fullmatch(FIELD_VALUE, as_bytes):
        raise SettingsError(f"{what} {text!r}: write 'name: value', without blanks in the name, and on one line")
    return name.strip(), value.strip()


def method(text: str) -> str:
    """A request's method. Raises `SettingsError`."""
    if not re.fullmatch(TOKEN, text):
        raise SettingsError(f"-X {text!r}: write a method, as GET")
    return text


def target(text: str) -> str:
    """A request's path and query. Raises `SettingsError`."""
    if not _TARGET.fullmatch(text):
        also = ", and the host with -H 'host: NAME'" if "://" in text else ", a blank in it as %20"
        raise SettingsError(f"target {text!r}: write path and query, as /orders?id=1{also}")
    return text


def status(number: int) -> int:
    """What the app answers. Raises `SettingsError`."""
    if not MIN_STATUS <= number <= MAX_STATUS:
        raise SettingsError(f"--response-status {number}: write {MIN_STATUS} to {MAX_STATUS}")
    return number


def content(text: str, what: str = "-d") -> bytes:
    """A body, or after ``@`` the file that has it, as curl's ``-d``. Raises `SettingsError`."""
    if not text.startswith(_FILE):
        return text.encode("utf-8", "surrogateescape")
    try:
        return Path(text[1:]).read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise SettingsError(f"{what} {text!r}: the file cannot be read ({why}): check the path") from None


def conf(text: str) -> str:
    """A plugin's configuration, or after ``@`` the file that has it. Raises `SettingsError`."""
    try:
        return content(text, "--conf").decode("utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"--conf {text!r}: it is no UTF-8") from None


def pair(text: str, what: str) -> tuple[str, str]:
    """``NAME=VALUE``. Raises `SettingsError`."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SettingsError(f"{what} {text!r}: write NAME=VALUE")
    return name, value


def url(text: str, what: str, example: str = "http://host:port") -> str:
    """The address of an HTTP server. Raises `SettingsError`."""
    try:
        parsed = httpx.URL(text)
        has_host = parsed.scheme in ("http", "https") and bool(parsed.host)
    except httpx.InvalidURL:
        has_host = False
    if not has_host:
        raise SettingsError(f"{what} {text!r}: write {example}")
    return text


def plugins(files: Sequence[str], confs: Sequence[str], root_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Entries of the plugin list: the first conf is the first file's, and so on. Raises `SettingsError`."""
    for name, values in (("--conf", confs), ("--root-id", root_ids)):
        if len(values) > len(files):
            raise SettingsError(f"{name} is given {len(values)} times for {len(files)} plugins: give it once for each")
    check_files(files)
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
