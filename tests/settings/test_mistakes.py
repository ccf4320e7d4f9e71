"""Every mistake is one sentence that names the source and the key, and says what to do."""

from __future__ import annotations

import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_wasm import SettingsError
from asgi_wasm.errors import PluginLoadError
from asgi_wasm.settings import load
from asgi_wasm.settings.conf import encode_conf
from asgi_wasm.worker.plugin_file import read_plugin_file

WAF = {"name": "waf", "file": "waf.wasm"}


def mistake(**arguments: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load(**arguments)
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"prority": 1}, "plugins.waf: unknown key 'prority'; did you mean 'priority'?"),
        ({"zzz": 1}, "plugins.waf: unknown key 'zzz'; known are "),
        ({"priority": "high"}, "plugins.waf.priority: input should be a valid integer"),
        ({"conf": {1, 2}}, "plugins.waf.conf: cannot be encoded (Object of type set is not JSON serializable)"),
        ({"conf": float("nan")}, "plugins.waf.conf: cannot be encoded"),
        ({"conf": {"at": datetime.date(2026, 1, 1)}}, "plugins.waf.conf: cannot be encoded"),
        ({"conf": "\ud800"}, "plugins.waf.conf: cannot be encoded"),
        ({"conf": "x", "configuration": "y"}, "plugins[0]: 'conf' and 'configuration' mean the same"),
        ({"failure_policy": "maybe"}, "plugins.waf.failure_policy: input should be 'fail_closed'"),
        ({"fail_open": True, "failure_policy": "fail_open"}, "plugins.waf: 'fail_open' and 'failure_policy' exclude"),
        ({"sha256": "12"}, "plugins.waf.sha256: must be 64 hexadecimal digits"),
        ({"limits": {"memory": 0}}, "plugins.waf.limits.memory: input should be greater than 0"),
        (
            {"limits": {"callback_ms": -1}},
            "plugins.waf.limits.callback_ms: input should be greater than or equal to 0",
        ),
        ({"limits": {"cpu": 1}}, "plugins.waf.limits: unknown key 'cpu'"),
        ({"env": {"A": 1}}, "plugins.waf.env.A: input should be a valid string"),
    ],
)
def test_in_a_plugin(entry: dict[str, object], expected: str) -> None:
    text = mistake(plugins=[WAF | entry])
    assert text.startswith("the arguments: ")
    assert expected in text


def test_missing_name_and_file() -> None:
    assert mistake(plugins=[{"file": "waf.wasm"}]) == (
        "the arguments: plugins[0].name: is missing: every plugin needs a name"
    )
    assert mistake(plugins=[{"name": "waf"}]) == "the arguments: plugins.waf.file: is missing"


def test_bad_and_duplicate_names() -> None:
    assert "plugins.a b.name: 'a b' is no name" in mistake(plugins=[{"name": "a b", "file": "waf.wasm"}])
    assert mistake(plugins=[WAF, WAF]) == (
        "the arguments: plugins.waf: is there twice: give each plugin a name of its own"
    )


def test_entry_that_is_no_mapping() -> None:
    assert "plugins[0]: must be a mapping" in mistake(plugins=["waf.wasm"])


def test_several_mistakes_are_told_at_once() -> None:
    assert len(mistake(plugins=[WAF | {"priority": "x", "nam": 1}], engine="v8").splitlines()) == 3


def test_other_keys(folder: Path) -> None:
    assert mistake(engine="v8") == ("the arguments: engine: 'v8' is no engine: choose from auto, wasmtime, wasmer")
    (folder / "asgi-wasm.yaml").write_text("plugin: []")
    assert mistake() == "asgi-wasm.yaml: plugin: unknown key 'plugin'; did you mean 'plugins'?"


def test_unknown_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_WASM_ENGIN", "wasmtime")
    assert "the environment: engin: unknown key 'engin'; did you mean 'engine'?" in mistake()


def test_environment_json_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_WASM_PLUGINS", "[{")
    assert mistake().startswith("environment variable ASGI_WASM_PLUGINS: is no JSON: ")


def test_environment_value_and_value_inside_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_WASM_ENGINE", "wasmtime")
    monkeypatch.setenv("ASGI_WASM_ENGINE__NAME", "wasmtime")
    assert "ASGI_WASM_ENGINE__NAME: 'engine' has a value already" in mistake()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ftp://a", "'ftp://a' "),
        ("ftp://user:secret@a?secret", "'ftp://a' "),
        # What cannot be taken apart is not shown: its password may be anywhere.
        *(("http://", ""), ("auth:80", ""), ("http://[::1", ""), ("http://a:99999999", "")),
    ],
)
def test_bad_upstream(url: str, shown: str) -> None:
    assert f"the arguments: upstreams.auth.url: {shown}is no upstream" in mistake(upstreams={"auth": url})


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"url": "http://u:p@a"}, "url: holds a user name: put an authorization header into headers instead"),
        ({"url": "http://a/base"}, "url: 'http://a' has more than a host: the plugin's :path is the whole path"),
        ({"url": "http://a?q"}, "url: 'http://a' has more than a host"),
        ({"headers": {"x y": "1"}}, "headers: 'x y' is no header name"),
        ({"headers": {":path": "/"}}, "headers: ':path' is no header name"),
        ({"headers": {"Content-Length": "1"}}, "headers: 'Content-Length' is made from the body of each call"),
        ({"headers": {"x": "a\nb"}}, "headers: the value of 'x' has characters that no header can carry"),
        ({"headers": {"x": "\u20ac"}}, "headers: the value of 'x' has characters that no header can carry"),
        ({"verify": "absent.pem"}, "verify: is no file: give true, false, or a file of certificates"),
        ({"timeout": 0}, "timeout: input should be greater than 0"),
    ],
)
def test_in_an_upstream(entry: dict[str, Any], expected: str) -> None:
    text = mistake(upstreams={"auth": {"url": "http://a", **entry}})
    assert text.startswith(f"the arguments: upstreams.auth.{expected}")
    assert "\n" not in text


def test_bad_message_limit() -> None:
    text = mistake(upstreams={"auth": {"url": "http://a", "message_limit": 0}})
    assert text == "the arguments: upstreams.auth.message_limit: input should be greater than 0"


@pytest.mark.parametrize("uri", ["a", "", "/a*b", "/*/a"])
def test_bad_route(uri: str) -> None:
    text = mistake(plugins=[WAF], routes=[{"uri": uri, "plugins": {"waf": {}}}])
    assert f"routes[0].uri: {uri!r} is no route" in text


def test_route_with_unknown_plugin_and_twice() -> None:
    route = {"uri": "/a", "plugins": {"wfa": {}}}
    assert mistake(plugins=[WAF], routes=[route]) == "the arguments: routes[0].plugins.wfa: no plugin is called 'wfa'"
    route = {"uri": "/a", "plugins": {"waf": {"conf": "1"}}}
    assert "routes[1]: '/a' is routed twice" in mistake(plugins=[WAF], routes=[route, route])


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
        ("pause_timeout: soon", "asgi-wasm.yaml: pause_timeout: input should be a valid number"),
        ("routes: [{uri: /a, pluginz: {}}]", "asgi-wasm.yaml: routes[0]"),
        ("routes: [x]", "asgi-wasm.yaml: routes[0]: input should be a valid dictionary"),
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


def test_settings_of_another_type() -> None:
    for wrong in (5, [WAF]):
        text = mistake(settings=wrong)
        assert text == "argument settings: must be a Settings, a mapping, or the path of a file"


def test_a_key_that_is_no_word(folder: Path) -> None:
    """Older releases of pydantic-settings let it pass to us."""
    (folder / "asgi-wasm.yaml").write_text("1: x")
    expected = ("asgi-wasm.yaml: must be a mapping of settings by name", "asgi-wasm.yaml: 1: unknown key '1'; ")
    assert mistake().startswith(expected)


def test_no_words_of_our_code() -> None:
    assert mistake(routes=["/a"]) == "the arguments: routes[0]: input should be a valid dictionary"
    assert mistake(cache_dir=5) == "the arguments: cache_dir: input is not a valid path"


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
    assert mistake() == (
        f"{source}: plugins.waf.priority: input should be a valid integer, unable to parse string as an integer"
    )


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


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("abcé€ "),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
)


@given(st.lists(json_values) | st.dictionaries(st.text("abc"), json_values))
def test_structures_become_json_and_text_stays(value: object) -> None:
    import json

    encoded = encode_conf(value)
    assert encoded is not None
    assert json.loads(encoded) == value
    assert encode_conf(encoded.decode()) == encoded
    assert encode_conf(encoded) == encoded


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "redis",
            "shared_data: is no store: write memory://, lmdb:///path, redis://host:port/0 or rediss://host:port/0",
        ),
        ("memcached://host", "'memcached://host' is no store: "),
        ("memory://host", "'memory://host' is no store: "),
        ("lmdb://relative/path", "'lmdb://relative/path' is no store: "),
        ("lmdb://", "'lmdb://' is no store: "),
        ("redis://", "shared_data: is no store: "),
        ("redis://host/zero", "'redis://host/zero' is no store: "),
        ("redis://host:99999999", "shared_data: is no store: "),
        ("redis://user:sec/ret@host:port", "shared_data: is no store: "),
        ("memory://?prefix=a", "shared_data: has an unknown option; known are: none"),
        ("redis://:secret@host?socket_timeout=9", "'redis://host' has an unknown option"),
        ("redis://host?ssl_certfile=a", "known are: prefix, timeout"),
        ("redis://host?timeout=soon", "its option timeout must be a number above 0"),
        ("redis://host?timeout=nan", "its option timeout must be a number above 0"),
        ("lmdb:///path?map_size=-1", "its option map_size must be a number above 0"),
        ("lmdb:///path?map_size=1.5", "its option map_size must be a number above 0"),
    ],
)
def test_bad_store(url: str, expected: str) -> None:
    text = mistake(shared_data=url)
    assert text.startswith("the arguments: shared_data: ")
    assert expected in text
    assert "sec" not in text
    assert len(text.splitlines()) == 1
