"""``file: asgi_wasm:NAME``."""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path

import pytest

from asgi_wasm import PluginStartError, SettingsError, WasmMiddleware, bundled
from asgi_wasm.settings import load
from tests.cli.running import run
from tests.driving import answering
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


def test_it_is_shown_as_it_is_named() -> None:
    """And not by where this machine has the package."""
    name = "asgi_wasm:fault_injection"
    (spec,) = load({"plugins": [{"name": "p", "file": name}]}).plugins
    assert (spec.shown_file, bundled.shown(spec.file)) == (name, name)
    assert bundled.shown(Path("/a/rust.wasm")) == "/a/rust.wasm"


@pytest.mark.parametrize("arguments", [["inspect", "asgi_wasm:fault_injection"], ["check", "s.yaml"]])
def test_commands_show_it_so(tmp_path: Path, arguments: list[str]) -> None:
    entry = '{name: p, file: "asgi_wasm:fault_injection", conf: "CONF"}'
    (tmp_path / "s.yaml").write_text(f"plugins: [{entry}]".replace("CONF", "{}"))
    done = run(*arguments, cwd=tmp_path)
    assert done.status == 0 and "asgi_wasm:fault_injection" in done.out and ".wasm" not in done.out
    (tmp_path / "s.yaml").write_text(f"plugins: [{entry}]".replace("CONF", "no JSON"))
    refused = run("check", "s.yaml", cwd=tmp_path)
    assert refused.status == 1 and "plugin 'p' (asgi_wasm:fault_injection): " in refused.err


async def test_the_log_shows_it_so(caplog: pytest.LogCaptureFixture) -> None:
    plugin = {"name": "p", "file": "asgi_wasm:fault_injection", "conf": "{}"}
    app = WasmMiddleware(answering(), settings={"plugins": [plugin]})
    with caplog.at_level(logging.INFO, logger="asgi_wasm.host"):
        await app.start()
        await app.stop()
    assert "plugin 'p': asgi_wasm:fault_injection, sha256 " in caplog.text


async def test_a_refused_start_shows_it_so() -> None:
    plugin = {"name": "p", "file": "asgi_wasm:fault_injection", "conf": "no JSON"}
    app = WasmMiddleware(answering(), settings={"plugins": [plugin]})
    with pytest.raises(PluginStartError, match=re.escape("plugin 'p' (asgi_wasm:fault_injection): ")) as raised:
        await app.start()
    assert raised.value.file == "asgi_wasm:fault_injection"
