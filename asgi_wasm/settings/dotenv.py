"""`.env`, by python-dotenv. The file is often another program's: what is not ours there stops nobody."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from asgi_wasm.errors import SettingsError
from asgi_wasm.settings.files import decode, read_bytes


def read_dotenv(path: Path, prefix: str) -> dict[str, str]:
    """The variables of a `.env` that has some of ours; none of a file that does not name one.

    ``prefix`` is that of our names, in upper case. Raises `SettingsError` for a line of such a file that cannot be
    parsed, and for what is no file.
    """
    content = read_bytes(path)
    if prefix.encode() not in content.replace(b"\0", b"").upper():
        return {}
    text = decode(content, path.name)
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            line = binding.original.line
            raise SettingsError(f"{path.name}: line {line} cannot be parsed: write NAME=value, the value in quotes")
    return {name: value or "" for name, value in dotenv_values(stream=StringIO(text)).items()}
