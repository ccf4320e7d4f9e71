"""What keys and values may be written as, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import Plugin, Route, Settings
from asgi_wasm.settings import Limits, Metrics, PluginLimits, RoutePlugin, TagRule, load
from asgi_wasm.specs import FailurePolicy, StoreSpec, UpstreamSpec
from tests.settings.asking import LIST, only


def test_settings_in_python_are_typed_as_they_may_be_written() -> None:
    """What this writes mypy checks too."""
    settings = Settings(
        plugins=[Plugin(name="waf", file="waf.wasm", failure_policy="fail_open", limits=PluginLimits(memory=65536))],
        routes=[Route(uri="/a", methods=["GET"], hosts="a.test", plugins={"waf": RoutePlugin(conf={"level": 2})})],
        limits=Limits(request_body=5),
        metrics=Metrics(rules=[TagRule(tag="zone", value="eu")]),
    )
    spec = load(settings)
    assert (only(spec).failure_policy, only(spec).limits.memory) == (FailurePolicy.FAIL_OPEN, 65536)
    (route,) = spec.routes
    assert (route.uri, route.hosts, dict(route.plugins)) == ("/a", ("a.test",), {"waf": b'{"level":2}'})
    assert (spec.limits.request_body, spec.metrics.enabled) == (5, True)


@pytest.mark.parametrize(
    ("word", "verify"), [("false", False), ("0", False), ("TRUE", True), ("yes", True), ("ca.pem", Path("ca.pem"))]
)
def test_verify_from_words(tmp_path: Path, word: str, verify: bool | Path) -> None:
    """The environment has words only; a file is relative to the file that names it."""
    (tmp_path / "ca.pem").touch()
    (tmp_path / "some.yaml").write_text(f"upstreams: {{a: {{url: 'https://a', verify: '{word}'}}}}")
    (upstream,) = load(tmp_path / "some.yaml").upstreams
    assert upstream.verify == (tmp_path / verify if isinstance(verify, Path) else verify)


def test_limit_of_a_calls_answer() -> None:
    assert load({}).call_response_limit == 32 * 1024 * 1024
    assert load({"limits": {"call_response": 5}}).call_response_limit == 5
    assert [plugin.name for plugin in load({"plugins": LIST[:1]}).plugins] == ["waf"]


def test_times_of_a_plugin_are_those_of_all_unless_it_says_otherwise() -> None:
    given: dict[str, Any] = {"plugins": [LIST[0], {**LIST[1], "limits": {"callback_ms": 0}}]}
    assert [(p.limits.callback_ms, p.limits.slow_callback_ms) for p in load(given).plugins] == [(1000, 100), (0, 100)]
    given["limits"] = {"callback_ms": 20, "slow_callback_ms": 0}
    assert [(p.limits.callback_ms, p.limits.slow_callback_ms) for p in load(given).plugins] == [(20, 0), (0, 0)]


def test_dashes_in_a_name_may_be_underscores_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_WASM_PLUGINS__MY_WAF__PRIORITY", "3")
    plugin = only(load(plugins=[{"name": "my-waf", "file": "waf.wasm"}]))
    assert (plugin.name, plugin.priority) == ("my-waf", 3)


def test_other_spellings() -> None:
    plugin = only(
        load(
            plugins=[
                {
                    "pluginName": "waf",
                    "filename": "waf.wasm",
                    "configuration": ["x"],
                    "vm_configuration": "vm",
                    "environment_variables": {"A": "b"},
                    "failStrategy": "FAIL_CLOSE",
                }
            ]
        )
    )
    assert (plugin.name, plugin.conf, plugin.vm_conf, plugin.env) == ("waf", b'["x"]', b"vm", (("A", "b"),))
    assert plugin.failure_policy is FailurePolicy.FAIL_CLOSED


def test_fail_open_is_the_older_spelling_of_a_policy() -> None:
    plugin = only(load(plugins=[{"name": "waf", "file": "waf.wasm", "fail_open": True}]))
    assert plugin.failure_policy is FailurePolicy.FAIL_OPEN


def test_routes() -> None:
    routes = [
        {"uri": "/a", "host": "Example.COM", "methods": ["get"], "plugins": {"waf": {"conf": {"x": 1}}}},
        {"uris": ["/b/*", "/c"], "plugins": {"waf": {}}},
    ]
    first, second, third = load(plugins=[{"name": "waf", "file": "waf.wasm"}], routes=routes).routes
    assert (first.uri, first.hosts, first.methods) == ("/a", ("example.com",), frozenset({"GET"}))
    assert first.plugins == {"waf": b'{"x":1}'}
    assert (second.uri, third.uri, third.plugins) == ("/b/*", "/c", {"waf": None})


def test_every_key_of_an_upstream() -> None:
    entry = {"url": "https://a", "timeout": 2, "verify": False, "headers": {"x-key": "1"}, "http2": True}
    spec = load(upstreams={"auth": {**entry, "message_limit": 10}})
    assert spec.upstreams == (UpstreamSpec("auth", "https://a", 2.0, False, (("x-key", "1"),), True, 10),)


def test_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "asgi-wasm.yaml").write_text("shared_data: lmdb:///run/my%20app?map_size=1000000\nshared_metrics: true\n")
    store = load().store
    assert (store.scheme, store.path, store.map_size) == ("lmdb", Path("/run/my app"), 1_000_000)
    assert (store.label, store.metrics) == ("lmdb:///run/my%20app", True)
    monkeypatch.setenv(
        "ASGI_WASM_SHARED_DATA", "rediss://:se:c%40ret@host:6380/2?prefix=shop:&timeout=0.1&ssl_ca_certs=/ca"
    )
    store = load().store
    assert store.scheme == "redis"
    assert store.url == "rediss://:se:c%40ret@host:6380/2?ssl_ca_certs=%2Fca"
    assert (store.prefix, store.timeout) == ("shop:", 0.1)
    assert store.label == "rediss://host:6380/2"
    assert "ret" not in repr(store)
    assert "ret" not in repr(Settings(shared_data="redis://:secret@host"))
    assert load(shared_data="memory://").store == StoreSpec(metrics=True)


APISIX = """
wasm:
  plugins:
    - name: waf
      priority: 7997
      file: waf.wasm
    - name: auth
      priority: 7996
      file: auth.wasm
routes:
  - uri: /hello
    plugins:
      waf:
        conf: '{"http_status": 200, "body": "hello world", "percentage": 100}'
  - uri: /other/*
    plugins:
      waf: {conf: {http_status: 503}}
      auth: {conf: plain text}
"""


def test_apisix_own_file(folder: Path) -> None:
    (folder / "asgi-wasm.yaml").write_text(APISIX)
    spec = load()
    assert [(plugin.name, plugin.priority, plugin.conf) for plugin in spec.plugins] == [
        ("waf", 7997, None),
        ("auth", 7996, None),
    ]
    assert [(route.uri, dict(route.plugins)) for route in spec.routes] == [
        ("/hello", {"waf": b'{"http_status": 200, "body": "hello world", "percentage": 100}'}),
        ("/other/*", {"waf": b'{"http_status":503}', "auth": b"plain text"}),
    ]


@pytest.mark.parametrize("value", ["off", False, "auto"])
def test_the_resident_half_can_be_switched_off(value: str | bool) -> None:
    assert load({"resident": value}).resident == (value == "auto")


@pytest.mark.parametrize("value", ["off", False, "auto", "required"])
def test_the_accelerator_is_chosen_by_a_setting(value: str | bool) -> None:
    assert load({"accelerator": value}).accelerator == (value or "off")


def test_the_accelerator_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_WASM_ACCELERATOR", "required")
    assert load().accelerator == "required"
