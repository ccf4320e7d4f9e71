"""Every link, anchor and path in every Markdown file leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.papers.blocks import README
from tests.papers.markdown import Paper, papers, read
from tests.serving import ROOT

PAPERS = papers()
# A path of the repository, written as code: `asgi_wasm/host/abi.py`, `tests/servers`, `plugins/build`.
_PATH = re.compile(r"(?:asgi_wasm|tests|plugins|sample_apps|\.ci|\.github)/[\w./-]*")
# One below the paper's own folder, or below the package: `host/streams/iteration.py`, `engines/`.
_BELOW = re.compile(r"[a-z_]+/(?:[\w-]+/)*(?:[\w.-]+\.(?:py|md|c|h|yaml|json))?")
# Files and folders that a reader is to make.
_EXAMPLES = ("plugins/hello", "mysite/")
_COMMAND = re.compile(r"^make ([a-z][a-z-]*)$")
MOST_LINES = 200
# Extras for those who work on it.
_OURS = {"bench", "check", "conformance", "samples", "test"}


def broken_links(paper: Paper) -> list[str]:
    """Relative links to no file, or to no heading of it."""
    found = []
    for link in paper.links:
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (paper.path.parent / unquote(name)).resolve() if name else paper.path
        if not target.exists() or (anchor and (target.suffix != ".md" or anchor not in read(target).anchors)):
            found.append(link)
    return found


def missing_paths(paper: Paper) -> list[str]:
    """Paths in backticks that are none: from the repository's root, the paper's own folder, or the package's."""
    folders = (ROOT, paper.path.parent, ROOT / "asgi_wasm")
    return [
        code
        for code in paper.inline_code
        if (_PATH.fullmatch(code) or _BELOW.fullmatch(code))
        and not code.startswith(_EXAMPLES)
        and not any((folder / code).exists() for folder in folders)
    ]


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert broken_links(read(path)) == []


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_are_there(path: Path) -> None:
    assert missing_paths(read(path)) == []


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_targets_of_make_are_there(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    named = {match[1] for code in read(path).inline_code if (match := _COMMAND.match(code))}
    assert [name for name in sorted(named) if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= MOST_LINES


def test_every_extra_is_told() -> None:
    """Those for users, in the README's table."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    section = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = set(re.findall(r"^([a-z0-9-]+) = ", section, re.MULTILINE)) - _OURS
    table = README.read_text("utf-8").partition("## Extras")[2].partition("\n## ")[0]
    assert extras <= set(re.findall(r"`([a-z0-9-]+)`", table.replace(", ", " ")))


def test_every_paper_is_led_to() -> None:
    """From the README, by links alone."""
    reached, waiting = {README}, [README]
    while waiting:
        here = read(waiting.pop())
        for link in here.links:
            target = (here.path.parent / link.partition("#")[0]).resolve()
            target = target / "README.md" if target.is_dir() else target
            if target.suffix == ".md" and target.exists() and target not in reached:
                reached.add(target)
                waiting.append(target)
    assert [str(path.relative_to(ROOT)) for path in PAPERS if path not in reached] == []


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    paper = tmp_path / "a.md"
    paper.write_text("# One two\n\n[a](b.md) [b](#one-two) [c](#two) [d](https://x.test) `tests/none.py`\n", "utf-8")
    assert broken_links(read(paper)) == ["b.md", "#two"]
    assert missing_paths(read(paper)) == ["tests/none.py"]
