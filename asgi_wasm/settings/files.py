"""Reads a settings file once, whole and bounded, as text; whatever is wrong with it is one sentence that names it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from asgi_wasm.errors import SettingsError

# A settings file has some kilobytes; a conf may bring a rule set of some megabytes.
MAX_BYTES = 16 * 1024 * 1024


def is_there(path: Path) -> bool:
    """Whether anything has this name, be it a file or not: a dangling link is a mistake, not "no settings"."""
    return os.path.lexists(path)


def read_bytes(path: Path, because: str = "") -> bytes:
    """The content. Raises `SettingsError` for what is no regular file, cannot be read, or is too large.

    ``because`` says why this file is read at all.
    """
    where = f"{shown(path)}{because}"
    try:
        # Not blocking: to open a FIFO would wait for its writer, and a device may have no end.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            mode = os.fstat(handle).st_mode
            if not stat.S_ISREG(mode):
                what = "is a directory" if stat.S_ISDIR(mode) else "is no regular file"
                raise SettingsError(f"settings file {where} {what}: give a YAML or TOML file")
            with open(handle, "rb", closefd=False) as stream:
                content = stream.read(MAX_BYTES + 1)
        finally:
            os.close(handle)
    except FileNotFoundError:
        problem = "is a link to nothing" if path.is_symlink() else "does not exist"
        raise SettingsError(f"settings file {where} {problem}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"settings file {where} cannot be read: {reason}") from None
    if len(content) > MAX_BYTES:
        raise SettingsError(f"settings file {where} is larger than {MAX_BYTES >> 20} MiB: it is no settings file")
    return content


def decode(content: bytes, name: str) -> str:
    """UTF-8, with a byte order mark or without; UTF-16 with one. Raises `SettingsError`, which names the line."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(
            f"{shown(name)}: line {line} has the byte 0x{content[error.start]:02x}, which is no UTF-8: save it as UTF-8"
        ) from None


def shown(text: object) -> str:
    """A name as a message may show it: on one line, and not endless."""
    plain = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))
    return plain if len(plain) <= 200 else f"{plain[:200]}…"
