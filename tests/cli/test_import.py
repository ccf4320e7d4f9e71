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


MATCHED = """
static_resources:
  listeners:
  - filterChains:
    - filters:
      - name: hcm
        typedConfig:
          routeConfig:
            virtualHosts:
            - typedPerFilterConfig: {guard: {disabled: true}}
          accessLog:
          - name: seen
            typedConfig:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.wasm.v3.WasmAccessLog
              config: {name: seen}
          httpFilters:
          - name: envoy.filters.http.cors
          - name: guard
            disabled: true
            typedConfig:
              "@type": type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher
              xdsMatcher: {}
              extensionConfig:
                name: guard
                typedConfig:
                  "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
                  config:
                    rootId: r
                    configuration: {"@type": type.googleapis.com/google.protobuf.Struct, value: {maxAge: 1}}
                    vmConfig:
                      vmId: v
                      code: {remote: {httpUri: {uri: "https://x.test/s", timeout: 9s}, sha256: %s, retryPolicy: {}}}
                      environmentVariables: {keyValues: {someName: x}}
          - {name: envoy.filters.http.router}
  - filterChains:
    - filters:
      - typedConfig:
          httpFilters:
          - name: other
            typedConfig:
              "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
              config: {vmConfig: {code: {local: {filename: /o.wasm}}}}
  clusters:
  - name: grpc
    typedExtensionProtocolOptions:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        autoConfig: {http2ProtocolOptions: {}}
        httpFilters:
        - name: up
          typedConfig:
            "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
            config: {vmConfig: {code: {local: {filename: /u.wasm}}}}
        - {name: envoy.filters.http.upstream_codec}
    transportSocket: {typedConfig: {"@type": x, sni: a.test}}
    loadAssignment:
      endpoints:
      - lbEndpoints:
        - {endpoint: {address: {socketAddress: {address: a.test, portValue: 443}}}}
        - {endpoint: {address: {socketAddress: {address: b.test, portValue: 443}}}}
bootstrapExtensions:
- name: ticker
  typedConfig:
    "@type": type.googleapis.com/envoy.extensions.wasm.v3.WasmService
    config: {name: ticker, vmConfig: {code: {local: {filename: /t.wasm}}}}
    singleton: true
""" % ("a" * 64)


def test_all_of_envoy_that_would_run_otherwise_is_told(tmp_path: Path) -> None:
    """In the other spelling of its keys; names that users choose, and what plugins get, stay as they are."""
    settings, left = imported(tmp_path, MATCHED)
    guard, other, up, ticker = settings["plugins"]
    assert (guard["root_id"], guard["vm_id"], guard["sha256"]) == ("r", "v", "a" * 64)
    assert (guard["conf"], guard["env"]) == ({"maxAge": 1}, {"someName": "x"})
    assert [each["file"] for each in (other, up, ticker)] == ["/o.wasm", "/u.wasm", "/t.wasm"] and ticker[
        "service"
    ] is True
    assert settings["upstreams"] == {"grpc": {"url": "https://a.test:443", "http2": True}}
    assert left.splitlines() == [
        "plugin 'guard': http_uri.timeout: the setting fetch_timeout is that of all plugins",
        "plugin 'guard': code.remote.retry_policy has no counterpart here",
        "plugin 'guard': is disabled there: leave it out",
        "plugin 'guard': its matcher has no counterpart here: say with routes, or when, where it runs",
        "plugin 'up': is a filter of calls to a cluster there; here it would see the requests of clients: leave it out",
        "plugin 'seen': is an access logger: plugins see HTTP alone here",
        "HTTP filter 'envoy.filters.http.cors' is none of Wasm",
        "the plugins of 3 chains of HTTP filters are one here: say with routes which runs where",
        "filter 'guard': typed_per_filter_config of routes has no counterpart here: say it with routes",
        "cluster 'grpc': the first of its 2 addresses is taken: there is one here",
        "cluster 'grpc': the options of its TLS have no counterpart here, but for upstreams.NAME.verify",
    ]


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


OF_ROUTES = """
routes:
- {id: 1, uri: /off, status: 0, plugins: {fault: {conf: x}}}
- id: 2
  uri: /user/:id
  priority: 9
  plugins: {fault: {conf: x, _meta: {disable: true}}}
global_rules:
- {id: all, plugins: {log: {conf: y}, prometheus: {}}}
services:
- {id: s, plugins: {unused: {conf: z}}}
#END
"""


def test_apisix_in_its_two_files(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "wasm: {plugins: [{name: fault, file: f.wasm}, {name: log, file: l.wasm}, {name: unused, file: u.wasm}]}"
    )
    (tmp_path / "apisix.yaml").write_text(OF_ROUTES)
    done = run("import", "apisix.yaml", "config.yaml", cwd=tmp_path)
    settings = yaml.safe_load(done.out)
    load(settings)
    confs = {plugin["name"]: plugin.get("conf") for plugin in settings["plugins"]}
    assert confs == {"fault": None, "log": "y", "unused": None}
    assert settings["routes"] == [{"uri": "/user/:id", "plugins": {"fault": {"conf": "x"}}}]
    assert done.err.splitlines() == [
        "route '/off': is disabled (status: 0), and left out",
        "route '/user/:id': plugin 'fault': _meta has no counterpart here",
        "route '/user/:id': a part with ':' stands for itself here: write /prefix/*",
        "route '/user/:id': priority has no counterpart here",
        "global rule 'all': plugin 'prometheus' is none of Wasm",
        "services: plugin 'unused' runs for one of them: say with routes where it runs",
        "plugin 'unused': no route names it, so here it runs on every request, without a conf: give it routes (also"
        " from a second file: asgi-wasm import config.yaml apisix.yaml)",
    ]
