"""What a Markdown file holds: its headings' anchors, its links, its paths, its code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.serving import ROOT

_PARSER = MarkdownIt("commonmark").enable("table")
# Not ours, or made.
_LEFT_OUT = {"node_modules", "target", "dist", "build"}


def papers() -> list[Path]:
    """Every Markdown file of the repository."""
    found = [path for path in ROOT.rglob("*.md") if not _is_left_out(path.relative_to(ROOT))]
    return sorted(found)


def _is_left_out(path: Path) -> bool:
    folders = path.parts[:-1]
    return any(name in _LEFT_OUT or (name.startswith(".") and name not in (".github", ".ci")) for name in folders)


@dataclass(frozen=True)
class Code:
    """A fenced block. ``line`` is that of its first line."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Paper:
    """One Markdown file, read."""

    path: Path
    anchors: frozenset[str]
    links: tuple[str, ...]
    inline_code: tuple[str, ...]
    blocks: tuple[Code, ...]


def read(path: Path) -> Paper:
    """Parse it as CommonMark with tables."""
    tokens = _PARSER.parse(path.read_text("utf-8"))
    inline = [token for token in tokens if token.type == "inline"]
    return Paper(
        path,
        frozenset(_anchors(tokens)),
        tuple(str(child.attrs["href"]) for child in _children(inline) if child.type == "link_open"),
        tuple(child.content for child in _children(inline) if child.type == "code_inline"),
        tuple(_blocks(tokens)),
    )


def _children(inline: list[Token]) -> Iterator[Token]:
    for token in inline:
        yield from token.children or ()


def _blocks(tokens: list[Token]) -> Iterator[Code]:
    for token in tokens:
        if token.type == "fence":
            yield Code(token.info.strip(), token.content, (token.map or [0])[0] + 2)


def _anchors(tokens: list[Token]) -> Iterator[str]:
    """As GitHub makes them: lower case, no punctuation, hyphens for spaces, a number where one is there already."""
    met: Counter[str] = Counter()
    for before, token in pairwise(tokens):
        if before.type != "heading_open":
            continue
        text = "".join(child.content for child in token.children or () if child.type in ("text", "code_inline"))
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        yield f"{slug}-{met[slug]}" if met[slug] else slug
        met[slug] += 1
