"""Tables of the README that a run makes: `make conformance-tables` writes them, `make conformance` checks them."""

from __future__ import annotations

import os
import re

from tests.serving import ROOT

README = ROOT / "README.md"
# Set by `make conformance-tables`: write what a run found instead of comparing it.
WRITE = "ASGI_WASM_WRITE_TABLES"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def check_block(name: str, text: str) -> None:
    """The README's block of this name says what the run found. Raises AssertionError, with what to do, otherwise."""
    readme = README.read_text("utf-8")
    pattern = re.compile(rf"(<!-- made by a run: {re.escape(name)} -->\n)(.*?)(\n<!-- end -->)", re.DOTALL)
    found = pattern.search(readme)
    assert found is not None, f"README.md has no block 'made by a run: {name}'"
    if os.environ.get(WRITE):
        README.write_text(readme[: found.start(2)] + text + readme[found.end(2) :], "utf-8")
        return
    assert found[2] == text, f"README.md, block {name!r}, is not what the run found: run `make conformance-tables`"
