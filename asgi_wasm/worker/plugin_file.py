"""A plugin's file, read once: what was checked is what is compiled."""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from pathlib import Path

from asgi_wasm import bundled
from asgi_wasm.engines.binary import check_header
from asgi_wasm.errors import FetchError, InvalidModuleError, PluginLoadError
from asgi_wasm.fetching.fetcher import Fetcher
from asgi_wasm.limits import MAX_FILE_BYTES as MAX_BYTES
from asgi_wasm.specs import PluginSpec, RemoteFile


def read_plugin_file(spec: PluginSpec, fetcher: Fetcher | None = None) -> tuple[bytes, str]:
    """The bytes to compile, and their SHA-256 in hexadecimal. It blocks. Raises `PluginLoadError`.

    Whoever swaps the file has it refused, or is too late: its ``sha256`` is that of the bytes returned. A file that is
    to be fetched is, unless it is in the cache: by ``fetcher``, on a thread without an event loop.
    """
    try:
        if isinstance(spec.file, RemoteFile):
            content = (fetcher or Fetcher()).fetch(spec.file).content
        else:
            content = _read(spec.file)
    except OSError as error:
        known = bundled.meant(str(spec.file)) if isinstance(error, FileNotFoundError) else ""
        mend = f"did you mean {known}?" if known else "check the path"
        raise _error(spec, f"cannot be read ({error.strerror or error}): {mend}") from error
    except FetchError as error:
        raise _error(spec, str(error)) from error
    digest = sha256(content).hexdigest()
    try:
        check_header(content)
    except InvalidModuleError as error:
        # The key that named the file is the sentence's subject.
        raise _error(spec, str(error).removeprefix("it ")) from None
    if spec.sha256 and digest != spec.sha256:
        raise _error(spec, f"its sha256 is {digest}, not the configured one: it is another file")
    return content, digest


def _read(file: Path) -> bytes:
    # Not blocking: to open a pipe would wait for its writer, and a device may have no end.
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    with open(handle, "rb") as stream:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):  # which Windows tells before, as a lack of rights
            raise IsADirectoryError(None, "Is a directory")
        if not stat.S_ISREG(mode):
            raise OSError(None, "it is no regular file")
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(None, f"it is larger than {MAX_BYTES >> 20} MiB")
    return content


def _error(spec: PluginSpec, problem: str) -> PluginLoadError:
    return PluginLoadError(spec.name, spec.shown_file, f"{spec.named_by}: {problem}" if spec.named_by else problem)
