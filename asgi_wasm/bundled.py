"""Plugins that the package brings along, so that the first try needs no file: ``asgi_wasm:fault_injection``."""

from __future__ import annotations

from pathlib import Path

PREFIX = "asgi_wasm:"
# Name -> where a checkout has it; an installed package has them all in one folder.
_FILES = {"fault_injection": "fault_injection/rust.wasm"}
_PACKAGE = Path(__file__).resolve().parent


def is_bundled(file: str | Path) -> bool:
    """Whether it names a plugin of ours, and no path."""
    return str(file).startswith(PREFIX)


def find(file: str | Path) -> Path:
    """The file of ``asgi_wasm:NAME``; anything else as it is. Raises ValueError, in one sentence, for another name."""
    if not is_bundled(file):
        return Path(file)
    name = str(file).removeprefix(PREFIX)
    if name not in _FILES:
        known = ", ".join(f"{PREFIX}{known}" for known in _FILES)
        raise ValueError(f"{str(file)!r} is no plugin of this package: known are {known}")
    installed = _PACKAGE / "bundled_plugins" / f"{name}.wasm"
    return installed if installed.exists() else _PACKAGE.parent / "plugins" / _FILES[name]


def shown(file: object) -> str:
    """How settings name it: a plugin of ours by its name, and not by where this machine has the package."""
    return next((name for name in (f"{PREFIX}{name}" for name in _FILES) if find(name) == file), str(file))


def meant(file: str | Path) -> str:
    """The whole name of a plugin of ours, where a file that is not there bears its name; else ""."""
    stem = Path(file).name.removesuffix(".wasm")
    return f"{PREFIX}{stem}" if stem in _FILES else ""
