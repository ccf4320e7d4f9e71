"""Code in Markdown files: Python parses, YAML loads, and settings are taken as a server would take them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml
from _pytest.mark.structures import ParameterSet

from asgi_wasm.settings import load
from tests.extras import why_not
from tests.papers.markdown import Code, papers, read
from tests.serving import ROOT

# Any of these at its top makes a YAML block one of our settings.
OURS = {"plugins", "routes", "upstreams", "metrics", "wasm", "limits"}


def blocks(language: str) -> list[ParameterSet]:
    return [
        pytest.param(path, block, id=f"{path.relative_to(ROOT)}:{block.line}")
        for path in papers()
        for block in read(path).blocks
        if block.language == language
    ]


@pytest.mark.parametrize(("path", "block"), blocks("python"))
def test_python_parses(path: Path, block: Code) -> None:
    compile(block.text, f"{path.name}:{block.line}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)


@pytest.mark.parametrize(("path", "block"), blocks("yaml"))
def test_yaml_is_right(path: Path, block: Code) -> None:
    """Settings are checked whole; a block that shows a part may name plugins that it does not list."""
    data = yaml.safe_load(block.text)
    if not isinstance(data, dict) or not OURS.intersection(data):
        return
    plugins = data.get("plugins") or data.get("wasm", {}).get("plugins") or []
    if "when:" in block.text and (reason := why_not("cel_expr_python")):
        pytest.skip(reason)
    known = {plugin["name"] for plugin in plugins} if isinstance(plugins, list) else set(plugins)
    named = {name for route in data.get("routes", []) for name in route.get("plugins", {})}
    more = [{"name": name, "file": "x.wasm"} for name in sorted(named - known)]
    load({**data, "plugins": [*plugins, *more]} if more else data)
