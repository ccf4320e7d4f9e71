"""Plugins as a command line gives them: a path, one of the package's, or one to fetch; and what is wrong with them.

Each mistake is one sentence of what was typed: whoever gave no settings is told of none.
"""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from asgi_wasm import bundled
from asgi_wasm.errors import PluginError, PluginStartError, SettingsError
from asgi_wasm.fetching import names as fetched
from asgi_wasm.specs import RemoteFile

# As `host.vm.lifecycle` says it of a plugin that wants another conf.
_REFUSED = "(on_configure answered false)"


def plugin_file(file: str, *, pinned: bool = True, where: str = "") -> Path | RemoteFile:
    """Where it is; ``where`` begins the sentence if it was not typed. One to fetch must name its sha256 if ``pinned``.

    A path must lead to a file that can be read. Raises `SettingsError`.
    """
    try:
        if fetched.is_remote(file):
            return fetched.parse(file, pinned=pinned)
        found = bundled.find(file)
    except ValueError as error:
        said = str(error)
        raise SettingsError(where + (said if bundled.is_bundled(file) else f"{file} {said}")) from None
    _check_readable(file, found, where)
    return found


def check_files(files: Iterable[str]) -> None:
    """Each of them is there, or names its sha256. Raises `SettingsError`, with a line for each that is not."""
    mistakes = []
    for file in files:
        try:
            plugin_file(file)
        except SettingsError as error:
            mistakes.append(str(error))
    if mistakes:
        raise SettingsError("\n".join(mistakes))


def _check_readable(file: str, path: Path, where: str) -> None:
    if not file:
        raise SettingsError(f"{where}the plugin's name is empty: give its .wasm file")
    if "\0" in file:
        raise SettingsError(f"{where}{file} is no path, since it holds a character NUL: give a .wasm file")
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            with path.open("rb"):
                return
    except FileNotFoundError:
        known = bundled.meant(file)
        mend = f"did you mean {known}?" if known else "build the plugin first, or check the path"
        raise SettingsError(f"{where}no such file: {file}: {mend}") from None
    except OSError as error:
        why = error.strerror or error
        raise SettingsError(f"{where}{file} cannot be read ({why}): check the path and its permissions") from None
    what = "folder: give the .wasm file in it" if stat.S_ISDIR(mode) else "pipe or device: give a .wasm file"
    raise SettingsError(f"{where}{file} is a {what}")


def plugin_name(file: str) -> str:
    """What a plugin is called that was given by its file alone."""
    stem = fetched.short_name(file) if fetched.is_remote(file) else Path(file).stem.rpartition(":")[2]
    return "".join(char if (char.isalnum() and char.isascii()) or char in "._-" else "_" for char in stem) or "plugin"


@contextmanager
def told_as_typed(files: Mapping[str, str], without_conf: Collection[str] = ()) -> Iterator[None]:
    """A refused plugin is told by what was typed for it; ``files`` has that by the plugins' names.

    The refused start of one in ``without_conf`` tells how to give it a conf.
    """
    try:
        yield
    except PluginError as error:
        # Without the key of settings that nobody wrote.
        problem = error.problem.rpartition(f"plugins.{error.plugin}.file: ")[2]
        if isinstance(error, PluginStartError) and error.plugin in without_conf and _REFUSED in problem:
            problem += "; give it one with --conf"
        raise type(error)(error.plugin, files.get(error.plugin, error.file), problem) from error
