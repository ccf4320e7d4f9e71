"""``file: asgi_wasm:NAME``."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from asgi_wasm import SettingsError, bundled
from asgi_wasm.settings import load
from tests.plugins.conftest import PLUGINS
from tests.serving import ROOT


def test_a_plugin_of_the_package() -> None:
    spec = load({"plugins": [{"name": "p", "file": "asgi_wasm:fault_injection"}]})
    content = Path(str(spec.plugins[0].file)).read_bytes()
    assert (
        hashlib.sha256(content).digest()
        == hashlib.sha256((PLUGINS / "fault_injection" / "rust.wasm").read_bytes()).digest()
    )
    assert len(content) < 200_000


def test_another_name() -> None:
    with pytest.raises(SettingsError, match="is no plugin of this package: known are asgi_wasm:fault_injection"):
        load({"plugins": [{"name": "p", "file": "asgi_wasm:waf"}]})


def test_the_wheel_has_each_of_them() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    included = dict(re.findall(r'^"plugins/(.*)" = "asgi_wasm/bundled_plugins/(.*)\.wasm"$', text, re.MULTILINE))
    assert {name: file for file, name in included.items()} == bundled._FILES
