"""The docstring of `WasmMiddleware` tells every option: its type, its default and an example that works."""

from __future__ import annotations

import inspect
import re

import pytest

from asgi_wasm import WasmMiddleware

_SIGNATURE = inspect.signature(WasmMiddleware.__init__)
_OPTIONS = [name for name in _SIGNATURE.parameters if name != "self"]
_DOC = inspect.getdoc(WasmMiddleware) or ""


def told(option: str) -> str:
    """What the docstring has of an option, as one line."""
    found = re.search(rf"^{option}: (.*(?:\n {{4}}.*)*)", _DOC, re.MULTILINE)
    return " ".join(found[1].split()) if found else ""


@pytest.mark.parametrize("option", _OPTIONS)
def test_every_option_is_told(option: str) -> None:
    text = told(option)
    needed = _SIGNATURE.parameters[option].default is inspect.Parameter.empty
    assert re.match(r"[A-Za-z`\"]", text), f"say what {option} is"
    assert ("Needed." if needed else "Default: ") in text
    assert "Example: ``" in text


def test_nothing_else_is_told() -> None:
    assert set(re.findall(r"^(\w+): ", _DOC, re.MULTILINE)) == set(_OPTIONS)


@pytest.mark.parametrize("option", [name for name in _OPTIONS if name not in ("app", "foreign_functions", "settings")])
def test_examples_are_taken(option: str) -> None:
    """By the settings, as a start takes them; the plugins that an example needs are made up."""
    from asgi_wasm import Plugin
    from asgi_wasm.settings import load

    example = re.search(r"Example: ``(.+?)``", told(option))
    assert example is not None
    value = eval(example[1], {"Plugin": Plugin})
    plugins = value if option == "plugins" else [{"name": "waf", "file": "waf.wasm"}]
    load({}, **{"plugins": plugins, option: value})
