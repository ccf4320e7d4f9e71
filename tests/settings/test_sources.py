"""Every source, alone and above another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import Plugin, Settings
from asgi_wasm.settings import Upstream, load
from asgi_wasm.specs import HostSpec
from tests.settings.asking import LIST, only, summary

YAML = """
plugins:
  - {name: waf, priority: 7, file: waf.wasm, conf: {"level": 2}}
  - {name: auth, file: auth.wasm, conf: plain text}
"""
TOML = """
[[plugins]]
name = "waf"
priority = 7
file = "waf.wasm"
conf = { level = 2 }
[[plugins]]
name = "auth"
file = "auth.wasm"
conf = "plain text"
"""
PYPROJECT = TOML.replace("[[plugins]]", "[[tool.asgi-wasm.plugins]]")
EXPECTED = [("waf", 7, "waf.wasm", b'{"level":2}'), ("auth", 0, "auth.wasm", b"plain text")]


def test_nothing_is_set() -> None:
    assert load() == HostSpec()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("asgi-wasm.yaml", YAML),
        ("asgi-wasm.yml", YAML),
        ("asgi-wasm.toml", TOML),
        ("pyproject.toml", PYPROJECT),
        (".env", f"ASGI_WASM_PLUGINS='{json.dumps(LIST)}'\n"),
        ("asgi-wasm.yaml", f"wasm:\n  plugins: {json.dumps(LIST)}\n"),
        ("asgi-wasm.yaml", f"plugins: {json.dumps({entry['name']: entry for entry in LIST})}\n"),
    ],
    ids=["yaml", "yml", "toml", "pyproject", "dotenv", "apisix", "by-name"],
)
def test_file_sources(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    assert summary(load()) == EXPECTED


def test_environment_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_WASM_PLUGINS", json.dumps(LIST))
    assert summary(load()) == EXPECTED


def test_environment_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_WASM_PLUGINS__waf__FILE", "waf.wasm")
    monkeypatch.setenv("ASGI_WASM_PLUGINS__waf__PRIORITY", "10")
    monkeypatch.setenv("ASGI_WASM_PLUGINS__waf__CONF", '{"kept":  "as it is"}')
    monkeypatch.setenv("ASGI_WASM_PLUGINS__waf__ENV__mode", "strict")
    monkeypatch.setenv("ASGI_WASM_UPSTREAMS__auth", "http://127.0.0.1:9000")
    monkeypatch.setenv("ASGI_WASM_ENGINE", "wasmtime")
    monkeypatch.setenv("ASGI_WASM_LIMITS__REQUEST_BODY", "10")
    spec = load()
    plugin = only(spec)
    assert (plugin.name, plugin.priority, plugin.conf) == ("waf", 10, b'{"kept":  "as it is"}')
    assert plugin.env == (("mode", "strict"),)
    assert [upstream.url for upstream in spec.upstreams] == ["http://127.0.0.1:9000"]
    assert (spec.engine, spec.limits.request_body) == ("wasmtime", 10)


def test_environment_keeps_the_case_of_names_that_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_WASM_PLUGINS__waf__FILE", "waf.wasm")
    monkeypatch.setenv("ASGI_WASM_PLUGINS__waf__ENV__LOG_Level", '{"not": "parsed"}')
    monkeypatch.setenv("ASGI_WASM_PLUGINS__waf__CONF__maxAge", "7")
    plugin = only(load())
    assert plugin.env == (("LOG_Level", '{"not": "parsed"}'),)
    assert plugin.conf == b'{"maxAge":"7"}'


def test_environment_may_give_a_plugins_environment_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_WASM_PLUGINS__waf__FILE", "waf.wasm")
    monkeypatch.setenv("ASGI_WASM_PLUGINS__waf__ENV", '{"MODE": "strict"}')
    assert only(load()).env == (("MODE", "strict"),)


def test_environment_json_and_by_name_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_WASM_PLUGINS", json.dumps(LIST))
    monkeypatch.setenv("ASGI_WASM_PLUGINS__auth__PRIORITY", "3")
    assert [plugin.priority for plugin in load().plugins] == [7, 3]


@pytest.mark.parametrize("given", [LIST, {entry["name"]: entry for entry in LIST}, [Plugin(**e) for e in LIST]])
def test_arguments(given: Any) -> None:
    assert summary(load(plugins=given)) == EXPECTED


def test_settings_object_and_mapping_replace_other_sources(folder: Path) -> None:
    (folder / "asgi-wasm.yaml").write_text(YAML)
    settings = Settings(plugins=[Plugin(name="auth", file="auth.wasm")], upstreams={"a": Upstream(url="http://a")})
    assert [plugin.name for plugin in load(settings).plugins] == ["auth"]
    assert load(settings).upstreams[0].url == "http://a"


def test_path_replaces_the_usual_files(folder: Path) -> None:
    (folder / "asgi-wasm.yaml").write_text(YAML)
    (folder / "sub").mkdir()
    (folder / "sub" / "other.toml").write_text('[[plugins]]\nname = "auth"\nfile = "../auth.wasm"\n')
    plugin = only(load("sub/other.toml"))
    assert plugin.name == "auth"
    assert (folder / "auth.wasm").samefile(str(plugin.file))


def test_upstreams_limits_and_metrics_are_merged_key_by_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "ca.pem").touch()
    (folder / "conf").mkdir()
    (folder / "conf" / "a.yaml").write_text(
        """
upstreams:
  auth: {url: "https://a", timeout: 9, verify: ../ca.pem}
  other: http://b
limits: {request_body: 5, response_body: 6}
metrics: {stats_tags: [{tag_name: zone, fixed_value: eu}], buckets: [1]}
"""
    )
    monkeypatch.setenv("ASGI_WASM_UPSTREAMS__auth__TIMEOUT", "1")
    monkeypatch.setenv("ASGI_WASM_UPSTREAMS__other", "http://c")
    monkeypatch.setenv("ASGI_WASM_LIMITS__REQUEST_BODY", "7")
    monkeypatch.setenv("ASGI_WASM_METRICS__BUCKETS", "[2]")
    spec = load("conf/a.yaml", upstreams={"auth": Upstream(url="https://d")})
    auth, other = spec.upstreams
    assert (auth.url, auth.timeout, auth.verify) == ("https://d", 1, folder / "conf" / ".." / "ca.pem")
    assert other.url == "http://c"
    assert (spec.limits.request_body, spec.limits.response_body) == (7, 6)
    assert (spec.metrics.enabled, spec.metrics.buckets) == (True, (2.0,))
    assert [(rule.tag, rule.value) for rule in spec.metrics.rules] == [("zone", "eu")]
    assert not load("conf/a.yaml", metrics=False).metrics.enabled


def test_config_variable_names_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "elsewhere.yaml").write_text(YAML)
    monkeypatch.setenv("ASGI_WASM_CONFIG", "elsewhere.yaml")
    assert summary(load()) == EXPECTED


def test_precedence_and_merging_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pyproject.toml").write_text(PYPROJECT.replace('"plain text"', '"from pyproject"'))
    (folder / "asgi-wasm.yaml").write_text("plugins: [{name: waf, priority: 1, conf: from yaml}]")
    (folder / ".env").write_text("ASGI_WASM_PLUGINS__waf__PRIORITY=2\nASGI_WASM_PLUGINS__waf__ROOT_ID=dotenv\n")
    monkeypatch.setenv("ASGI_WASM_PLUGINS__WAF__PRIORITY", "3")
    spec = load(plugins=[{"name": "waf", "vm_id": "argument"}])
    waf, auth = spec.plugins
    assert (waf.priority, waf.root_id, waf.vm_id, waf.conf) == (3, "dotenv", "argument", b"from yaml")
    assert auth.conf == b"from pyproject"
    assert waf.file == folder / "waf.wasm"


def test_files_are_relative_to_the_source_that_names_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "conf").mkdir()
    (folder / "conf" / "a.yaml").write_text("plugins: [{name: waf, file: ../waf.wasm}]")
    assert (folder / "waf.wasm").samefile(str(only(load("conf/a.yaml")).file))
    monkeypatch.setenv("ASGI_WASM_PLUGINS__waf__FILE", "auth.wasm")
    assert only(load("conf/a.yaml")).file == folder / "auth.wasm"


SOURCES = ["argument", "environment", ".env", "asgi-wasm.yaml", "pyproject.toml"]


@pytest.mark.parametrize("first", range(len(SOURCES)))
def test_the_first_source_that_names_a_key_wins(folder: Path, monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """Each source says its own place in the list; those above ``first`` say nothing."""

    def says(source: str) -> int | None:
        place = SOURCES.index(source)
        return place if place >= first else None

    if says("environment") is not None:
        monkeypatch.setenv("ASGI_WASM_PLUGINS__waf__PRIORITY", "1")
        monkeypatch.setenv("ASGI_WASM_PAUSE_TIMEOUT", "11")
    if says(".env") is not None:
        (folder / ".env").write_text("ASGI_WASM_PLUGINS__waf__PRIORITY=2\nASGI_WASM_PAUSE_TIMEOUT=12\n")
    if says("asgi-wasm.yaml") is not None:
        (folder / "asgi-wasm.yaml").write_text("plugins: [{name: waf, priority: 3}]\npause_timeout: 13\n")
    table = '[tool.asgi-wasm]\npause_timeout = 14\n[[tool.asgi-wasm.plugins]]\nname = "waf"\npriority = 4\n'
    (folder / "pyproject.toml").write_text(table + 'file = "waf.wasm"\n')
    spec = load(plugins=[{"name": "waf", "priority": 0}] if first == 0 else None)
    assert only(spec).priority == first
    assert spec.pause_timeout == 10 + max(first, 1)
    assert only(spec).file == folder / "waf.wasm"


def test_other_variables_do_not_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE", "nonsense")
    monkeypatch.setenv("PLUGINS", "nonsense")
    (folder / ".env").write_text("SECRET=1\nDATABASE_URL=x\n")
    assert load() == HostSpec()
