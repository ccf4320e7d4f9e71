"""What the settings say of reloads and of failed plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import SettingsError
from asgi_wasm.settings.load import load


def with_reload_config(value: Any, key: str = "reload_config") -> float:
    (plugin,) = load({"plugins": [{"name": "p", "file": "p.wasm", key: value}]}).plugins
    return plugin.reload_interval


@pytest.mark.parametrize(("written", "seconds"), [(2, 2.0), (0.25, 0.25), ("3", 3.0), ("1.5s", 1.5), ("600s", 600.0)])
def test_base_interval(written: Any, seconds: float) -> None:
    assert with_reload_config({"backoff": {"base_interval": written}}) == seconds
    assert with_reload_config({"backoff": {"base_interval": written}}, key="reloadConfig") == seconds


def test_base_interval_is_envoys_if_none_is_given() -> None:
    assert with_reload_config({}) == with_reload_config({"backoff": {}}) == 1.0


@pytest.mark.parametrize("written", [0, -1, "s", "soon", "1m"])
def test_no_interval(written: Any) -> None:
    where = r"plugins\.p\.reload_config\.backoff\.base_interval: "
    with pytest.raises(SettingsError, match=where):
        with_reload_config({"backoff": {"base_interval": written}})


def test_by_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASGI_WASM_WATCH", "true")
    monkeypatch.setenv("ASGI_WASM_DRAIN_TIMEOUT", "2.5")
    monkeypatch.setenv("ASGI_WASM_PLUGINS__p__FILE", "p.wasm")
    monkeypatch.setenv("ASGI_WASM_PLUGINS__p__RELOAD_CONFIG__BACKOFF__BASE_INTERVAL", "2s")
    spec = load()
    assert (spec.watch, spec.drain_timeout, spec.plugins[0].reload_interval) == (True, 2.5, 2.0)


def test_the_files_that_were_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They are what a watch follows."""
    monkeypatch.chdir(tmp_path)
    assert load().sources == ()
    for name, text in (("asgi-wasm.yaml", "watch: true\n"), (".env", "OTHER=1\n"), ("pyproject.toml", "")):
        (tmp_path / name).write_text(text)
    assert {path.name for path in load().sources} == {"asgi-wasm.yaml", ".env", "pyproject.toml"}
    assert load("asgi-wasm.yaml").sources[-1] == tmp_path / "asgi-wasm.yaml"
