"""`asgi-wasm import`: what it prints is read by the settings again, and what is left behind is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from asgi_wasm.settings import load
from tests.cli.running import run

ENVOY = """
static_resources:
  listeners:
  - filter_chains:
    - filters:
      - name: hcm
        typed_config:
          http_filters:
          - name: envoy.filters.http.wasm
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
              config:
                name: first plugin
                root_id: r
                fail_open: true
                configuration: {"@type": type.googleapis.com/google.protobuf.StringValue, value: '{"a": 1}'}
                vm_config:
                  vm_id: v
                  runtime: envoy.wasm.runtime.v8
                  code: {local: {filename: /etc/first.wasm}}
                  environment_variables: {key_values: {A: b}, host_env_keys: [HOME]}
                stat_prefix: x
          - name: second
            typed_config:
              "@type": type.googleapis.com/udpa.type.v1.TypedStruct
              type_url: type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
              value:
                config:
                  failure_policy: FAIL_RELOAD
                  configuration: {"@type": type.googleapis.com/google.protobuf.Struct, value: {block: [1]}}
                  vm_config: {code: {remote: {http_uri: {uri: "https://x.test/s.wasm"}, sha256: %s}}}
          - {name: envoy.filters.http.router}
  clusters:
  - name: auth
    load_assignment:
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: auth.test, port_value: 80}}}}]}]
  - name: safe
    transport_socket: {name: tls}
    load_assignment:
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: safe.test, port_value: 443}}}}]}]
  - {name: eds}
""" % ("a" * 64)

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

APISIX = """
wasm:
  plugins: [{name: fault, priority: 7997, file: t/fault.wasm, http_request_phase: rewrite}]
routes:
- uri: /hello
  methods: [GET]
  vars: []
  upstream: {nodes: {"a:1": 1}}
  plugins: {fault: {conf: '{"http_status": 403}'}, limit-count: {count: 1}}
"""


def imported(folder: Path, text: str) -> tuple[dict[str, Any], str]:
    (folder / "given.yaml").write_text(text)
    done = run("import", "given.yaml", cwd=folder)
    assert done.status == 0, done.err
    settings = yaml.safe_load(done.out)
    # They are settings: nothing of them is refused.
    load(settings)
    return settings, done.err


def test_envoy(tmp_path: Path) -> None:
    settings, left = imported(tmp_path, ENVOY)
    first, second = settings["plugins"]
    assert first == {
        "name": "first-plugin",
        "priority": 2,
        "file": "/etc/first.wasm",
        "conf": '{"a": 1}',
        "root_id": "r",
        "vm_id": "v",
        "env": {"A": "b"},
        "failure_policy": "fail_open",
    }
    assert (second["name"], second["file"], second["sha256"]) == ("second", "https://x.test/s.wasm", "a" * 64)
    assert (second["conf"], second["failure_policy"]) == ({"block": [1]}, "fail_reload")
    assert settings["upstreams"] == {"auth": "http://auth.test:80", "safe": "https://safe.test:443"}
    for words in ("stat_prefix has no counterpart", "host_env_keys", "cluster 'eds'"):
        assert words in left


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


def test_apisix(tmp_path: Path) -> None:
    settings, left = imported(tmp_path, APISIX)
    assert settings["plugins"] == [{"name": "fault", "priority": 7997, "file": "t/fault.wasm"}]
    assert settings["routes"] == [
        {"uri": "/hello", "methods": ["GET"], "plugins": {"fault": {"conf": '{"http_status": 403}'}}}
    ]
    for words in ("http_request_phase", "'limit-count' is none of Wasm", "vars has no counterpart"):
        assert words in left


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1", "holds no Envoy HTTP filter"),
        ("", "holds no Envoy HTTP filter"),
        ("[", "is no YAML"),
        ("wasm: {plugins: [1]}", "document 1 has not the shape"),
        ("{kind: WasmPlugin, spec: [1]}", "document 1 has not the shape"),
    ],
)
def test_a_file_without_plugins(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "given.yaml").write_text(text)
    done = run("import", "given.yaml", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert words in done.err and done.err.count("\n") == 1
