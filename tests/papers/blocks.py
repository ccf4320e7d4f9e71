"""Blocks of Markdown files that are made by a run or from the code: written when `WRITE` is set, else compared."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.serving import ROOT

README = ROOT / "README.md"
ENVOY = ROOT / "asgi_wasm" / "host" / "ENVOY.md"
OPERATIONS = ROOT / "asgi_wasm" / "OPERATIONS.md"
STORES = ROOT / "asgi_wasm" / "services" / "README.md"
SETTINGS = ROOT / "asgi_wasm" / "settings" / "README.md"
# Set by `make conformance-tables` and `make papers`, or for `make chaos`: write what was found, and compare nothing.
WRITE = "ASGI_WASM_WRITE_TABLES"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def check_block(paper: Path, name: str, text: str, *, make: str = "make conformance-tables") -> None:
    """The block of this name in ``paper`` is ``text``. Raises AssertionError, with the command that mends it."""
    found = paper.read_text("utf-8")
    block = re.search(rf"(<!-- made [a-z ]+: {re.escape(name)} -->\n)(.*?)(\n<!-- end -->)", found, re.DOTALL)
    where = paper.relative_to(ROOT)
    assert block is not None, f"{where} has no block 'made …: {name}'"
    if os.environ.get(WRITE):
        paper.write_text(found[: block.start(2)] + text + found[block.end(2) :], "utf-8")
        return
    assert block[2] == text, f"{where}, block {name!r}, is not what was found: run `{make}`"


def check_file(paper: Path, text: str) -> None:
    """The whole file is ``text``. Raises AssertionError, with the command that mends it."""
    if os.environ.get(WRITE):
        paper.write_text(text, "utf-8")
        return
    assert paper.read_text("utf-8") == text, f"{paper.relative_to(ROOT)} is not current: run `make papers`"
