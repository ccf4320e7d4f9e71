"""`asgi-wasm import` of files as users have them: JSON, ConfigMaps, templates, dumps; Higress and Envoy Gateway."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
import yaml

from asgi_wasm.cli.importing import import_settings
from asgi_wasm.errors import SettingsError
from asgi_wasm.settings import load

Imported = Callable[..., tuple[dict[str, Any], list[str]]]

WASM = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"


@pytest.fixture
def imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Imported:
    """The settings, which are checked as settings, and what is told; in process, since each is one call."""

    def give(*texts: str, status: int = 0) -> tuple[dict[str, Any], list[str]]:
        paths = [tmp_path / f"{index}.yaml" for index in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        assert import_settings(paths) == status
        out, err = capsys.readouterr()
        settings: dict[str, Any] = yaml.safe_load(out)
        if status == 0:
            load(settings)
        return settings, err.splitlines()

    return give


def http_filter(name: str = "f", file: str = "/f.wasm", **config: Any) -> dict[str, Any]:
    """One, as a mapping."""
    code = {"local": {"filename": file}}
    return {"name": name, "typed_config": {"@type": WASM, "config": {"vm_config": {"code": code}, **config}}}


def manager(*filters: dict[str, Any]) -> dict[str, Any]:
    """A listener's."""
    return {"typed_config": {"http_filters": [*filters, {"name": "envoy.filters.http.router"}]}}


def test_json_with_tabs_and_each_filter_once_though_every_listener_has_it(imported: Imported) -> None:
    """As `config_dump` has it. Twice within one chain it runs twice there, and here."""
    listeners = [
        manager(http_filter(), http_filter(), http_filter("g")),
        manager(http_filter(), http_filter("f", "/2")),
    ]
    settings, left = imported(json.dumps({"configs": [{"dynamic_listeners": listeners}]}, indent="\t"))
    assert [(plugin["name"], plugin["file"], plugin["priority"]) for plugin in settings["plugins"]] == [
        ("f", "/f.wasm", 4),
        ("f-2", "/f.wasm", 3),
        ("g", "/f.wasm", 2),
        ("f-3", "/2", 1),
    ]
    assert left == ["the plugins of 2 chains of HTTP filters are one here: say with routes which runs where"]


def test_a_filter_that_runs_in_one_chain_is_not_told_of_another_where_it_does_not(imported: Imported) -> None:
    clusters = {"typed_extension_protocol_options": {"x": {"http_filters": [http_filter()]}}}
    disabled = manager({**http_filter(), "disabled": True})
    settings, left = imported(yaml.safe_dump([clusters, disabled, manager(http_filter()), disabled]))
    assert [(plugin["name"], plugin.get("enabled")) for plugin in settings["plugins"]] == [("f", None)]
    assert left == ["the plugins of 4 chains of HTTP filters are one here: say with routes which runs where"]


def test_a_config_map(imported: Imported) -> None:
    text = indent(yaml.safe_dump(manager(http_filter())), "    ")
    config_map = f"kind: ConfigMap\ndata:\n  other.yaml: '[nothing of it'\n  envoy.yaml: |\n{text}"
    settings, _ = imported(f"kind: Service\n---\n{config_map}")
    assert settings == {"plugins": [{"name": "f", "priority": 1, "file": "/f.wasm"}]}


def test_bytes_and_texts_of_several_lines(imported: Imported, capsys: pytest.CaptureFixture[str]) -> None:
    def packed(content: bytes) -> dict[str, str]:
        return {"@type": "type.googleapis.com/google.protobuf.BytesValue", "value": b64encode(content).decode()}

    def configured(content: bytes) -> dict[str, Any]:
        return http_filter(configuration=packed(content))

    settings, _ = imported(yaml.safe_dump(manager(configured(b"a\nb\n"), configured(b"\xff\x00"))))
    assert [plugin["conf"] for plugin in settings["plugins"]] == ["a\nb\n", b"\xff\x00"]
    assert [spec.conf for spec in load(settings).plugins] == [b"a\nb\n", b"\xff\x00"]
    assert load({"plugins": [{"name": "f", "file": "f", "configuration": packed(b"x")}]}).plugins[0].conf == b"x"


def test_older_spellings_of_the_filter(imported: Imported) -> None:
    vm = {"code": {"local": {"filename": "/old"}}}
    old = [
        {"name": "envoy.filters.http.wasm", "config": {"config": {"vm_config": vm, "configuration": "x"}}},
        {
            "name": "v2",
            "typed_config": {"@type": "t/envoy.config.filter.http.wasm.v2.Wasm", "config": {"vmConfig": vm}},
        },
    ]
    settings, _ = imported(yaml.safe_dump(old))
    assert [plugin["file"] for plugin in settings["plugins"]] == ["/old", "/old"]
    assert settings["plugins"][0]["conf"] == "x"


def test_what_is_discovered_and_ports_that_are_none(imported: Imported) -> None:
    discovered = {"name": "ecds", "config_discovery": {"config_source": {}, "type_urls": [WASM]}}
    address = {"socket_address": {"address": "a.test", "port_value": "$PORT"}}
    cluster = {"name": "c", "load_assignment": {"endpoints": [{"endpoint": {"address": address}}]}}
    document = {"l": manager(discovered, http_filter()), "static_resources": {"clusters": [cluster]}}
    settings, left = imported(yaml.safe_dump(document))
    assert "upstreams" not in settings
    assert left == [
        "plugin 'ecds': its configuration is discovered (ECDS): import that resource",
        "cluster 'c': has no address of its own: name its URL under upstreams if plugins call it",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("spec: {{ .Values.url }}", "0.yaml: is a template: render it first"),
        ("kind: ConfigMap\ndata: {a.yaml: '[wasm'}", "0.yaml: ConfigMap's a.yaml: is no YAML"),
        ("kind: TrafficExtension\nspec: {lua: {}}", "TrafficExtension 'plugin': is written in Lua"),
        (
            "kind: EnvoyExtensionPolicy\nmetadata: {name: p}\nspec: {lua: []}",
            "EnvoyExtensionPolicy 'p': lua has no counterpart here",
        ),
    ],
)
def test_what_is_refused_is_said_in_one_sentence(imported: Imported, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        imported(text)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_what_would_be_refused_here_is_told_with_status_1(imported: Imported) -> None:
    spec = {"url": "file:///p.wasm", "vmConfig": {"env": [{"name": "", "value": "x"}]}}
    _, left = imported(yaml.safe_dump({"kind": "WasmPlugin", "metadata": {"name": "p"}, "spec": spec}), status=1)
    assert len(left) == 1 and left[0].startswith("refused as it stands: plugins.p.env: '' is no name of a variable")


def test_istio_phases_come_before_priorities(imported: Imported) -> None:
    """However large those are; and `pluginName` is the root context's name, as Istio gives it to Envoy."""

    def resource(kind: str, name: str, **spec: Any) -> dict[str, Any]:
        plugin = {"url": f"file:///{name}.wasm", "pluginName": f"root of {name}"}
        inner = {"wasm": plugin} if kind == "TrafficExtension" else plugin
        return {"kind": kind, "metadata": {"name": name}, "spec": {**inner, **spec}}

    resources = [
        resource("WasmPlugin", "last", priority=7000),
        resource("WasmPlugin", "authz", phase="AUTHZ", priority=4000),
        resource("TrafficExtension", "authn", phase="AUTHN", priority=-1),
    ]
    settings, _ = imported(yaml.safe_dump_all(resources))
    ordered = sorted(settings["plugins"], key=lambda plugin: -plugin["priority"])
    assert [(plugin["name"], plugin["root_id"]) for plugin in ordered] == [
        (name, f"root of {name}") for name in ("authn", "authz", "last")
    ]


def test_rules_of_higress_are_given_to_the_plugin_as_its_sdk_reads_them(imported: Imported) -> None:
    rules = [
        {"domain": ["a.test"], "config": {"x": 1}},
        {"ingress": ["default/foo"], "config": {"x": 2}},
        {"domain": ["b.test"], "configDisable": True, "config": {"x": 3}},
    ]
    spec: dict[str, Any] = {"url": "file:///p.wasm", "defaultConfig": {"x": 0}, "matchRules": rules}
    plugin = {"kind": "WasmPlugin", "metadata": {"name": "p"}, "spec": spec}
    settings, left = imported(yaml.safe_dump(plugin))
    ours = [{"x": 1, "_match_domain_": ["a.test"]}, {"x": 2, "_match_route_": ["default/foo"]}]
    assert settings["plugins"][0]["conf"] == {"x": 0, "_rules_": ours}
    assert left == [
        "plugin 'p': matchRules by ingress and service match no request here, which has neither: write them by domain,"
        " or with routes"
    ]
    spec["defaultConfigDisable"] = True
    assert imported(yaml.safe_dump(plugin))[0]["plugins"][0]["conf"] == {"_rules_": ours}
    spec["matchRules"] = rules[2:]
    settings, left = imported(yaml.safe_dump(plugin))
    assert "conf" not in settings["plugins"][0] and "is disabled there" in left[0]


def test_an_extension_policy_of_envoy_gateway(imported: Imported) -> None:
    image = {"url": "registry.test/a:1", "sha256": "a" * 64, "pullSecretRef": {"name": "s"}}
    plugins = [
        {
            "name": "a",
            "rootID": "r",
            "code": {"type": "Image", "image": image, "pullPolicy": "Always"},
            "failOpen": True,
        },
        {"code": {"http": {"url": "https://x.test/b", "tls": {}}}, "config": {"k": 1}, "env": {"hostKeys": ["HOME"]}},
    ]
    spec = {"targetRefs": [], "wasm": plugins, "extProc": []}
    policy = {"kind": "EnvoyExtensionPolicy", "metadata": {"name": "p"}, "spec": spec}
    settings, left = imported(yaml.safe_dump(policy))
    assert settings["plugins"] == [
        {
            "name": "a",
            "priority": 2,
            "file": "oci://registry.test/a:1",
            "sha256": "a" * 64,
            "root_id": "r",
            "failure_policy": "fail_open",
        },
        {"name": "p-1", "priority": 1, "file": "p-1.wasm", "conf": {"k": 1}},
    ]
    told = [sentence for sentence in left if "its code is https://x.test/b, which names no sha256" not in sentence]
    assert len(told) == len(left) - 1 and told == [
        "plugin 'a': pullSecretRef: 'docker login' where it runs gives its credentials",
        "plugin 'p-1': env.hostKeys: give the values in env, since no plugin sees the process's",
        "plugin 'p-1': code.tls has no counterpart here",
        "EnvoyExtensionPolicy 'p': targetRefs has no counterpart here: say with routes where its plugins run",
        "EnvoyExtensionPolicy 'p': extProc has no counterpart here",
    ]


@pytest.mark.parametrize(
    "document",
    [
        {"uri": "/x", "plugins": {"w": {"conf": "c"}}},
        {"key": "/apisix/routes/1", "value": {"uri": "/x", "plugins": {"w": {"conf": "c"}}}},
        {"total": 1, "list": [{"key": "k", "value": {"uri": "/x", "plugins": {"w": {"conf": "c"}}}}]},
        {"services": [{"routes": [{"uri": "/x", "plugins": {"w": {"conf": "c"}}}]}], "routes": []},
    ],
)
def test_routes_of_apisix_as_its_admin_api_and_its_tools_have_them(imported: Imported, document: Any) -> None:
    settings, left = imported(json.dumps(document), "wasm: {plugins: [{name: w, file: w.wasm}]}")
    assert settings["routes"] == [{"uri": "/x", "plugins": {"w": {"conf": "c"}}}]
    assert left == []
    settings, _ = imported(
        json.dumps({"id": 1, "plugins": {"w": {"conf": "c"}}}), "wasm: {plugins: [{name: w, file: w.wasm}]}"
    )
    assert settings == {"plugins": [{"name": "w", "file": "w.wasm", "conf": "c"}]}


_PLUGIN = "kind: WasmPlugin\nmetadata: {name: p}\nspec:\n  url: file:///x.wasm\n"
_TENFOLD = [f"&a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 9)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"- &a0 [{', '.join('x' * 10)}]\n" + "".join(f"- {line}\n" for line in _TENFOLD), "1,000,000 values"),
        ("&a {x: *a}\n", "nested too deeply"),
        ("&a [*a, *a]\n", "nested too deeply"),
        ("&a {items: [*a]}\n", "nested too deeply"),
        ("- &a0 []\n" + "".join(f"- &a{level} [*a{level - 1}]\n" for level in range(1, 2000)), "nested too deeply"),
        ('{"a":' * 300 + "1" + "}" * 300, "nested too deeply"),
        ("kind: ConfigMap\ndata:\n  x: |\n    wasm: &a [*a]\n", "nested too deeply"),
        (f"{_PLUGIN}  pluginConfig: {{a: 0x{'f' * 9000}}}\n", "more than 1024 bits"),
        (f"{_PLUGIN}  priority: '{'9' * 4300}'\n", "32 bits"),
        (f"{_PLUGIN}  priority: .inf\n", "infinity"),
    ],
)
def test_a_hostile_file_is_refused_in_a_sentence(tmp_path: Path, text: str, told: str) -> None:
    """Nobody waits for it, and it takes no memory: the first stands for a billion values."""
    path = tmp_path / "hostile.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=rf"^hostile\.yaml: .*{told}"):
        import_settings([path])
