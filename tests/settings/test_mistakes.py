"""Every mistake is one sentence that names the source and the key, and says what to do."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.settings.mistaken import WAF, mistake


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"prority": 1}, "plugins.waf: unknown key 'prority'; did you mean 'priority'?"),
        ({"zzz": 1}, "plugins.waf: unknown key 'zzz'; known are "),
        ({"priority": "high"}, "plugins.waf.priority: must be a whole number"),
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
        ({"env": {"A": 1}}, "plugins.waf.env.A: must be a text: put it in quotes"),
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
    assert (
        mistake(plugins=[WAF], routes=[route])
        == "the arguments: routes[0].plugins.wfa: no plugin is called 'wfa'; did you mean 'waf'?"
    )
    route = {"uri": "/a", "plugins": {"waf": {"conf": "1"}}}
    assert "routes[1]: '/a' is routed twice" in mistake(plugins=[WAF], routes=[route, route])


def test_settings_of_another_type() -> None:
    for wrong in (5, [WAF]):
        text = mistake(settings=wrong)
        assert text == "argument settings: must be a Settings, a mapping, or the path of a file"


def test_no_words_of_our_code() -> None:
    assert mistake(routes=["/a"]) == "the arguments: routes[0]: must be a mapping"
    assert mistake(cache_dir=5) == "the arguments: cache_dir: must be a path"


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
        ("rediss://host?ssl_cert_reqs=yes", "its option ssl_cert_reqs must be one of none, optional, required"),
        ("redis://host?timeout=soon", "its option timeout must be a number above 0"),
        ("redis://host?timeout=nan", "its option timeout must be a number above 0"),
        ("lmdb:///a%00b", "is no store: write memory://"),
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
