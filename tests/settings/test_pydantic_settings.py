"""An app that reads its settings by pydantic-settings: ours can be a part of them. And why ours are not read by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from asgi_wasm import Settings
from asgi_wasm.errors import SettingsError
from asgi_wasm.settings import load
from asgi_wasm.settings.sources import read_all


class AppSettings(BaseSettings):
    """As an app has them."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_nested_delimiter="__", hide_input_in_errors=True)

    title: str = "shop"
    wasm: Settings = Settings()


def test_ours_can_be_a_part_of_an_apps_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_WASM__PLUGINS", '[{"name": "waf", "file": "waf.wasm", "conf": "{\\"deny\\": 1}"}]')
    monkeypatch.setenv("SHOP_WASM__UPSTREAMS", '{"auth": "http://127.0.0.1:9000"}')
    monkeypatch.setenv("SHOP_WASM__ENGINE", "wasmtime")
    spec = load(AppSettings().wasm)
    assert [(plugin.name, plugin.file, plugin.conf) for plugin in spec.plugins] == [
        ("waf", Path.cwd() / "waf.wasm", b'{"deny": 1}')
    ]
    assert [(upstream.name, upstream.url) for upstream in spec.upstreams] == [("auth", "http://127.0.0.1:9000")]
    assert spec.engine == "wasmtime"


def test_no_other_source_is_read_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_WASM_ENGINE", "none")
    with pytest.raises(SettingsError, match="engine"):
        load()
    assert load(AppSettings().wasm).engine == "auto"


def test_what_its_own_source_would_make_of_our_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A plugin's name loses its case, and a `conf` that looks like JSON is no text any more: the plugin parses that."""

    class Plugin(BaseModel):
        conf: str | dict[str, Any] = ""

    class Read(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="ASGI_WASM_", env_nested_delimiter="__")

        plugins: dict[str, Plugin] = Field(default_factory=dict)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASGI_WASM_PLUGINS__Waf__CONF", '{"at": 1.0}')
    assert Read().plugins == {"waf": Plugin(conf={"at": 1.0})}
    (environment,) = read_all()
    assert environment.data == {"plugins": {"Waf": {"conf": '{"at": 1.0}'}}}
