"""Mistakes in files: of the settings, in each format, and of plugins."""

from __future__ import annotations

from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest

from asgi_wasm.errors import PluginLoadError
from asgi_wasm.settings import lines, load
from asgi_wasm.settings.sources import toml
from asgi_wasm.worker.plugin_file import read_plugin_file
from tests.settings.mistaken import mistake


def test_settings_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mistake(settings="no.yaml") == "settings file no.yaml does not exist"
    monkeypatch.setenv("ASGI_WASM_CONFIG", "no.toml")
    assert mistake() == "settings file no.toml (named by ASGI_WASM_CONFIG) does not exist"
    monkeypatch.delenv("ASGI_WASM_CONFIG")
    (folder / "asgi-wasm.yaml").write_text("plugins: [\n")
    text = mistake()
    assert text.startswith("asgi-wasm.yaml: cannot be read: ")
    assert "line 2" in text
    (folder / "asgi-wasm.toml").write_text("")
    assert mistake() == "asgi-wasm.yaml and asgi-wasm.toml both exist: keep one of them"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wasm: {plugin: []}", "asgi-wasm.yaml: wasm: unknown key 'plugin'; did you mean 'plugins'?"),
        ("wasm: []", "asgi-wasm.yaml: wasm: must be a mapping with plugins"),
        (
            "wasm: {plugins: []}\nplugins: []",
            "asgi-wasm.yaml: wasm.plugins: means the same as plugins: keep one of them",
        ),
        ("upstreams: [http://a]", "asgi-wasm.yaml: upstreams: must be a mapping of names to URLs"),
        (
            "upstreams: {a: {url: 'http://a', verfy: false}}",
            "asgi-wasm.yaml: upstreams.a: unknown key 'verfy'; ",
        ),
        ("upstreams: {a: {url: 'http://a', timeout: 0}}", "asgi-wasm.yaml: upstreams.a.timeout: input should be "),
        ("limits: {request_body: -1}", "asgi-wasm.yaml: limits.request_body: input should be greater than 0"),
        ("pause_timeout: soon", "asgi-wasm.yaml: pause_timeout: must be a number"),
        ("limits: {memory: 64Mi}", "asgi-wasm.yaml: limits.memory: must be a whole number, without a unit"),
        ("limits: {contexts: 1e20}", "asgi-wasm.yaml: limits.contexts: must be a whole number"),
        ("trace_requests: 100000000000000000000", "asgi-wasm.yaml: trace_requests: is beyond 64 bits"),
        ("watch: maybe", "asgi-wasm.yaml: watch: must be true or false"),
        ("engine: {a: 1}", "asgi-wasm.yaml: engine: must be a text"),
        ("plugins: [{name: p, file: 5}]", "asgi-wasm.yaml: plugins.p.file: must be a path or a URL"),
        ("plugins: [{name: p, file: }]", "asgi-wasm.yaml: plugins.p.file: must be a path or a URL"),
        (
            "plugins: [{name: p, file: p.wasm, vm_id: no}]",
            "asgi-wasm.yaml: plugins.p.vm_id: must be a text: put it in quotes",
        ),
        (
            "upstreams: {a: {url: 'http://a', verify: []}}",
            "asgi-wasm.yaml: upstreams.a.verify: must be true, false, or a file of certificates",
        ),
        ("routes: [{uri: /a, pluginz: {}}]", "asgi-wasm.yaml: routes[0]"),
        ("routes: [x]", "asgi-wasm.yaml: routes[0]: must be a mapping"),
        (
            "plugins: [{name: waf, file: waf.wasm}]\nroutes: [{uri: /a, plugins: {waf: {conf: 2026-01-01}}}]",
            "asgi-wasm.yaml: routes[0].plugins.waf.conf: cannot be encoded",
        ),
        ("plugins: waf", "asgi-wasm.yaml: plugins[0]: must be a mapping with name and file"),
        ("- plugins", "asgi-wasm.yaml: "),
        ("- plugins", "asgi-wasm.yaml: must be a mapping of settings"),
        ("plugins", "asgi-wasm.yaml: must be a mapping of settings"),
        ("wasm: {1: x}", "asgi-wasm.yaml: wasm: unknown key '1'; known are plugins"),
        ("plugins: [{name: , file: waf.wasm}]", "asgi-wasm.yaml: plugins[0].name: is missing"),
        ("upstreams: {a: 5}", "asgi-wasm.yaml: upstreams.a: must be a mapping"),
        ("limits: 5", "asgi-wasm.yaml: limits: must be a mapping"),
        ("metrics: {rules: [], stats_tags: []}", "asgi-wasm.yaml: metrics: 'rules' and 'stats_tags' mean the same"),
    ],
)
def test_in_a_file(folder: Path, text: str, expected: str) -> None:
    (folder / "asgi-wasm.yaml").write_text(text)
    assert mistake().splitlines()[0].startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plugins: []\nroutes: []\nplugins: []\n", "line 3: 'plugins' is there twice: keep one of them"),
        ("plugins:\n  waf: {file: waf.wasm}\n  waf: {file: auth.wasm}\n", "line 3: 'waf' is there twice: keep one"),
        ("plugins:\n  - {name: waf, file: waf.wasm, conf: {a: 1, a: 2}}\n", "line 2: 'a' is there twice: keep one"),
    ],
)
def test_a_key_twice_in_yaml(folder: Path, text: str, expected: str) -> None:
    (folder / "asgi-wasm.yaml").write_text(text)
    assert mistake().startswith(f"asgi-wasm.yaml: {expected}")


def test_keys_of_yaml_that_are_no_words_and_anchors(folder: Path) -> None:
    """None of them is a key twice."""
    text = "plugins: [&a {name: waf, file: waf.wasm, conf: {? [1] : 1, x: &b [*b]}}, {<<: *a, name: auth, conf: {}}]"
    (folder / "asgi-wasm.yaml").write_text(text)
    assert "twice" not in mistake()


def test_a_key_twice_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_WASM_PLUGINS", '{"waf": {"file": "waf.wasm"}, "waf": {"file": "auth.wasm"}}')
    assert mistake() == "environment variable ASGI_WASM_PLUGINS: 'waf' is there twice: keep one of them"


def test_a_key_that_is_no_word(folder: Path) -> None:
    """Older releases of pydantic-settings let it pass to us."""
    (folder / "asgi-wasm.yaml").write_text("1: x")
    expected = ("asgi-wasm.yaml: must be a mapping of settings by name", "asgi-wasm.yaml: 1: unknown key '1'; ")
    assert mistake().startswith(expected)


@pytest.mark.parametrize(
    ("place", "source"),
    [("environment", "the environment"), (".env", ".env"), ("pyproject.toml", "pyproject.toml [tool.asgi-wasm]")],
)
def test_source_of_a_key_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, place: str, source: str) -> None:
    """Also when another source says the rest of the plugin."""
    (folder / "asgi-wasm.yaml").write_text("plugins: [{name: waf, file: waf.wasm}]")
    if place == "environment":
        monkeypatch.setenv("ASGI_WASM_PLUGINS__waf__PRIORITY", "high")
    elif place == ".env":
        (folder / ".env").write_text("ASGI_WASM_PLUGINS__waf__PRIORITY=high")
    else:
        (folder / place).write_text("[tool.asgi-wasm.plugins.waf]\npriority = 'high'")
    assert mistake() == f"{source}: plugins.waf.priority: must be a whole number"


def test_an_upstream_of_another_type_is_one_mistake(folder: Path) -> None:
    (folder / "asgi-wasm.yaml").write_text("upstreams: {a: 5}")
    assert mistake() == "asgi-wasm.yaml: upstreams.a: must be a mapping with url, or a URL alone"


def test_a_plugin_misspelled_in_a_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "asgi-wasm.yaml").write_text("plugins: [{name: limiter, file: waf.wasm}]")
    monkeypatch.setenv("ASGI_WASM_PLUGINS__limitr__PRIORITY", "3")
    assert mistake() == "the environment: plugins.limitr: has no file; did you mean the plugin 'limiter'?"
    monkeypatch.delenv("ASGI_WASM_PLUGINS__limitr__PRIORITY")
    monkeypatch.setenv("ASGI_WASM_PLUGINS__other__PRIORITY", "3")
    assert mistake() == "the environment: plugins.other.file: is missing"


def test_malformed_pyproject(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool")
    assert mistake().startswith("pyproject.toml: cannot be read: ")


def problem(content: bytes | None, folder: Path, **more: object) -> str | None:
    if content is not None:
        (folder / "x.wasm").write_bytes(content)
    (plugin,) = load(plugins=[{"name": "x", "file": "x.wasm", **more}]).plugins
    try:
        read_plugin_file(plugin)
    except PluginLoadError as error:
        return error.problem
    return None


def test_plugin_files(folder: Path) -> None:
    where = "the arguments: plugins.x.file: "
    assert problem(None, folder) == f"{where}cannot be read (No such file or directory): check the path"
    (folder / "x.wasm").mkdir()
    assert problem(None, folder) == f"{where}cannot be read (Is a directory): check the path"
    (folder / "x.wasm").rmdir()
    assert problem(b"", folder) == f"{where}is empty: give the .wasm that the SDK built"
    assert problem(b"#!/bin/sh", folder) == f"{where}is no WebAssembly file: give the .wasm that the SDK built"
    assert (problem(b"\0asm\x0d\0\1\0", folder) or "").startswith(f"{where}is a component; ")
    good = b"\0asm\1\0\0\0"
    assert problem(good, folder) is None
    assert problem(good, folder, sha256=sha256(good).hexdigest().upper()) is None
    assert "not the configured one" in (problem(good, folder, sha256="0" * 64) or "")


@pytest.mark.parametrize(("written", "line"), [("abc def\n", 3005), ("a = 1\n", None)])
def test_the_line_of_a_key_after_a_long_text_is_found_without_reading_the_file_for_each_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, line: int | None
) -> None:
    """A conf may be a list of rules. What looks like settings in each of its lines is not searched to the end."""
    loads, times = toml.loads, count()
    monkeypatch.setattr(toml, "loads", lambda text: (next(times), loads(text))[1])
    file = tmp_path / "asgi-wasm.toml"
    file.write_text('[plugins.a]\nfile = "a.wasm"\nconf = """\n' + written * 3000 + '"""\npriority = "no"\n')
    assert lines.line_of(file, "plugins.a.priority") == line
    assert next(times) <= 200
