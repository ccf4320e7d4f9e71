"""What the commands print: text for people. Whatever it quotes stays on its line, and cannot drive the terminal."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from asgi_wasm.logs import escape

__all__ = ["error", "fields", "json_out", "line", "out", "table"]

# Columns: more than any line has.
_WIDE = 100_000

# Made for each call, since tests and servers may have replaced the streams; `highlight` would colour numbers in quotes.


def out() -> Console:
    """Standard output."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True, emoji=False)


def _err() -> Console:
    return Console(file=sys.stderr, highlight=False, soft_wrap=True, emoji=False)


def shown(value: object, style: str = "") -> Text:
    """Any text, escaped, never read as markup."""
    return Text(escape(str(value)), style)


def line(value: object, style: str = "") -> None:
    """One line."""
    out().print(shown(value, style))


def error(value: object) -> None:
    """One line on standard error."""
    _err().print(shown(value, "red"))


def json_out(value: Any) -> None:
    """A value as JSON; bytes as text with escapes."""
    print(json.dumps(value, indent=2, default=_plain, ensure_ascii=False))


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


def fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values below each other, a list's items too; what is empty is left out."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        if value not in ("", None, [], ()):
            lines = value if isinstance(value, (list, tuple)) else [value]
            grid.add_row(name, Text("\n").join(map(shown, lines)))
    _print_cells(grid)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], styles: Mapping[str, str] | None = None) -> None:
    """A table; ``styles`` are of cells that read so."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*(shown(cell, (styles or {}).get(str(cell), "")) for cell in row))
    _print_cells(made)


def _print_cells(made: Table) -> None:
    """Within the width of a terminal; for a file or a pipe each row is one line, whatever its length."""
    shown_on = out()
    if shown_on.is_terminal:
        shown_on.print(made)
        return
    wide = Console(file=io.StringIO(), width=_WIDE, highlight=False, emoji=False)
    with wide.capture() as lines:
        wide.print(made)
    for text in lines.get().splitlines():
        shown_on.print(Text(text.rstrip()))
