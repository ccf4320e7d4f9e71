"""`asgi-wasm import` of Istio's resources, as files and as kubectl lists them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.cli.importing import imported

ISTIO = """
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: openid}
spec:
  url: oci://registry.test/openid:1
  phase: AUTHN
  priority: 5
  failStrategy: FAIL_OPEN
  selector: {matchLabels: {app: x}}
  pluginConfig: {issuer: me}
  vmConfig: {env: [{name: A, value: b}, {name: B, valueFrom: HOST}]}
---
kind: WasmPlugin
metadata: {name: local}
spec: {url: "file:///opt/filters/local.wasm", match: []}
"""


def test_istio(tmp_path: Path) -> None:
    settings, left = imported(tmp_path, ISTIO)
    openid, local = settings["plugins"]
    assert openid == {
        "name": "openid",
        "priority": 3005,
        "file": "openid.wasm",
        "conf": {"issuer": "me"},
        "env": {"A": "b"},
        "failure_policy": "fail_open",
    }
    assert local == {"name": "local", "priority": 0, "file": "/opt/filters/local.wasm"}
    for words in (
        "oci://registry.test/openid:1, which names no sha256",
        "selector has no counterpart",
        "env 'B' comes from the host",
        "match has",
    ):
        assert words in left


@pytest.mark.parametrize(
    ("url", "sha256", "file"),
    [
        (f"oci://registry.test/openid:1@sha256:{'a' * 64}", None, f"oci://registry.test/openid:1@sha256:{'a' * 64}"),
        ("oci://registry.test/openid:1", "a" * 64, "oci://registry.test/openid:1"),
        ("registry.test/openid:1", "a" * 64, "oci://registry.test/openid:1"),
        ("https://x.test/openid.wasm", "a" * 64, "https://x.test/openid.wasm"),
    ],
)
def test_what_is_fetched_stays_where_it_is(tmp_path: Path, url: str, sha256: str | None, file: str) -> None:
    plugin = {"url": url, "sha256": sha256} if sha256 else {"url": url}
    document = {"kind": "WasmPlugin", "metadata": {"name": "openid"}, "spec": plugin}
    settings, left = imported(tmp_path, yaml.safe_dump(document))
    assert settings["plugins"][0]["file"] == file
    assert left == ""


def test_a_filter_of_istio(tmp_path: Path) -> None:
    vm = {"runtime": "envoy.wasm.runtime.null", "code": {"local": {"inline_string": "of.envoy"}}}
    config = {"@type": "x/envoy.extensions.filters.http.wasm.v3.Wasm", "config": {"name": "f", "vm_config": vm}}
    patch = {"applyTo": "HTTP_FILTER", "patch": {"value": {"name": "f", "typed_config": config}}}
    settings, left = imported(tmp_path, yaml.safe_dump({"kind": "EnvoyFilter", "spec": {"configPatches": [patch]}}))
    assert [plugin["name"] for plugin in settings["plugins"]] == ["f"]
    assert "plugin 'f': is compiled into Envoy" in left
    assert "EnvoyFilter: what it applies to has no counterpart" in left


def test_resources_as_kubectl_lists_them(tmp_path: Path) -> None:
    spec = {
        "url": "file:///p.wasm",
        "type": "NETWORK",
        "imagePullSecret": "s",
        "verificationKey": "k",
        "phase": "LATE",
        "failStrategy": "FAIL_SOFT",
        "vmConfig": {"env": [], "memory": 1},
        "targetRef": {},
        "defaultConfig": {"of": "Higress"},
        "novel": 1,
    }
    plugins = [{"kind": "WasmPlugin", "metadata": {"name": name}, "spec": spec} for name in ("a", "b")]
    settings, left = imported(tmp_path, yaml.safe_dump({"kind": "List", "items": plugins}))
    assert [(plugin["name"], plugin["conf"]) for plugin in settings["plugins"]] == [
        (name, {"of": "Higress"}) for name in ("a", "b")
    ]
    told = {sentence.removeprefix("plugin 'b': ") for sentence in left.splitlines() if "'b'" in sentence}
    assert told == {
        "targetRef has no counterpart here: say with routes where it runs",
        "verificationKey has no counterpart here: sha256 says which file it is",
        "imagePullSecret: 'docker login' where it runs gives its credentials",
        "type 'NETWORK': plugins see HTTP alone here",
        "phase 'LATE' is unknown",
        "failStrategy 'FAIL_SOFT' is unknown",
        "novel has no counterpart here",
        "vmConfig.memory has no counterpart here",
    }
