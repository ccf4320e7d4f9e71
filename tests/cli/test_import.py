"""`asgi-wasm import` of Envoy's configuration: what it prints are settings, and what is left behind is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.importing import imported
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
    assert guard["enabled"] is False and not any("enabled" in each for each in (other, up, ticker))
    assert (guard["conf"], guard["env"]) == ({"maxAge": 1}, {"someName": "x"})
    assert [each["file"] for each in (other, up, ticker)] == ["/o.wasm", "/u.wasm", "/t.wasm"] and ticker[
        "service"
    ] is True
    assert settings["upstreams"] == {"grpc": {"url": "https://a.test:443", "http2": True}}
    assert settings["routes"] == [{"uri": "/*", "plugins": {"guard": False}}]
    assert left.splitlines() == [
        "plugin 'guard': http_uri.timeout: the setting fetch_timeout is that of all plugins",
        "plugin 'guard': code.remote.retry_policy has no counterpart here",
        "plugin 'guard': its matcher has no counterpart here: say with routes, or when, where it runs",
        "plugin 'up': is a filter of calls to a cluster there; here it would see the requests of clients: leave it out",
        "plugin 'seen': is an access logger: plugins see HTTP alone here",
        "HTTP filter 'envoy.filters.http.cors' is none of Wasm",
        "the plugins of 3 chains of HTTP filters are one here: say with routes which runs where",
        "cluster 'grpc': the first of its 2 addresses is taken: there is one here",
        "cluster 'grpc': the options of its TLS have no counterpart here, but for upstreams.NAME.verify",
    ]
