"""Blocks of Envoy's and Istio's configuration, pasted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from asgi_wasm import SettingsError
from asgi_wasm.settings import Plugin, load

_ENVOY = """
name: waf
root_id: main
configuration: {"@type": type.googleapis.com/google.protobuf.StringValue, value: '{"a": 1}'}
failure_policy: FAIL_RELOAD
capability_restriction_config: {allowed_capabilities: {proxy_log: {}, proxy_on_configure: {}}}
vm_config:
  vm_id: shared
  runtime: envoy.wasm.runtime.v8
  allow_precompiled: true
  configuration: {"@type": type.googleapis.com/google.protobuf.Struct, b: [2]}
  code: {local: {filename: /plugins/waf.wasm}}
  environment_variables: {key_values: {LEVEL: "3"}}
"""


def only(entry: dict[str, Any]) -> Any:
    (plugin,) = load({"plugins": [entry]}).plugins
    return plugin


def test_envoys_plugin_config() -> None:
    plugin = only(yaml.safe_load(_ENVOY))
    assert (plugin.name, plugin.root_id, plugin.vm_id) == ("waf", "main", "shared")
    assert (plugin.file, plugin.conf, plugin.vm_conf) == (Path("/plugins/waf.wasm"), b'{"a": 1}', b'{"b":[2]}')
    assert plugin.env == (("LEVEL", "3"),)
    assert plugin.allowed_capabilities == {"proxy_log", "proxy_on_configure"}


def test_as_protobufs_json_and_as_a_model() -> None:
    block = {"vmId": "x", "code": {"local": {"filename": "/p.wasm"}}, "environmentVariables": {"keyValues": {"A": "b"}}}
    plugin = only({"name": "p", "vmConfig": block})
    assert (plugin.vm_id, plugin.file, plugin.env) == ("x", Path("/p.wasm"), (("A", "b"),))
    assert Plugin.model_validate({"name": "p", "vmConfig": block}).vm_id == "x"


def test_remote_code() -> None:
    remote = {"http_uri": {"uri": "https://x.test/p.wasm", "cluster": "c", "timeout": "5s"}, "sha256": "ab" * 32}
    plugin = only({"name": "p", "vm_config": {"code": {"remote": remote}}})
    assert plugin.file.url == "https://x.test/p.wasm"
    assert plugin.file.digest == "ab" * 32


def test_istios_vm_config() -> None:
    block = {"env": [{"name": "A", "value": "b"}, {"name": "C", "valueFrom": "INLINE", "value": "d"}]}
    assert only({"name": "p", "file": "p.wasm", "vmConfig": block}).env == (("A", "b"), ("C", "d"))


def test_another_source_may_say_a_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "asgi-wasm.yaml").write_text(yaml.safe_dump({"plugins": [yaml.safe_load(_ENVOY)]}))
    monkeypatch.setenv("ASGI_WASM_PLUGINS__waf__VM_ID", "mine")
    (plugin,) = load(tmp_path / "asgi-wasm.yaml").plugins
    assert (plugin.vm_id, plugin.env) == ("mine", (("LEVEL", "3"),))


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"vm_config": "v8"}, "'vm_config' must be a mapping"),
        ({"vm_config": {"vm_id": "a"}, "vm_id": "b"}, "'vm_id' and 'vm_config.vm_id' mean the same"),
        ({"vm_config": {"code": {"local": {"filename": "a"}}}}, "'file' and 'vm_config.code.local.filename' mean"),
        ({"vm_config": {"code": {"local": {"inline_string": "x"}}}}, "stored as a file"),
        ({"vm_config": {"code": {}}}, "vm_config.code must be 'local'"),
        ({"vm_config": {"code": {"remote": {"sha256": "x"}}}}, "http_uri.uri is missing"),
        ({"vm_config": {"runtime": "envoy.wasm.runtime.null"}}, "is code within Envoy"),
        ({"vm_config": {"nack_on_code_cache_miss": True}}, "unknown key 'nack_on_code_cache_miss'"),
        ({"vm_config": {"vmid": "x"}}, "unknown key 'vmid'; did you mean 'vm_id'?"),
        ({"vm_config": {"environment_variables": {"host_env_keys": ["PATH"]}}}, "give the values under env"),
        ({"vm_config": {"environment_variables": {"A": "b"}}}, "has key_values, and not 'A'"),
        ({"vm_config": {"environment_variables": "A=b"}}, "vm_config.environment_variables must be a mapping"),
        ({"vmConfig": {"env": [{"name": "A", "valueFrom": "HOST"}]}}, "'A' comes from the host"),
        ({"capability_restriction_config": {"denied": {}}}, "unknown key 'denied'"),
    ],
)
def test_what_cannot_be_carried_over_is_a_sentence(entry: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as raised:
        only({"name": "p", "file": "p.wasm", **entry})
    assert problem in str(raised.value)
    assert "plugins[0]" in str(raised.value)
    assert "\n" not in str(raised.value)
