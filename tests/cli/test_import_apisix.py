"""`asgi-wasm import` of APISIX's configuration and routes."""

from __future__ import annotations

from pathlib import Path

import yaml

from asgi_wasm.settings import load
from tests.cli.importing import imported
from tests.cli.running import run

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


def test_apisix(tmp_path: Path) -> None:
    settings, left = imported(tmp_path, APISIX)
    assert settings["plugins"] == [{"name": "fault", "priority": 7997, "file": "t/fault.wasm"}]
    assert settings["routes"] == [
        {"uri": "/hello", "methods": ["GET"], "plugins": {"fault": {"conf": '{"http_status": 403}'}}}
    ]
    for words in ("http_request_phase", "'limit-count' is none of Wasm", "vars has no counterpart"):
        assert words in left


OF_ROUTES = """
routes:
- {id: 1, uri: /off, status: 0, plugins: {fault: {conf: x}}}
- id: 2
  uri: /user/:id
  priority: 9
  plugins: {fault: {conf: x, _meta: {disable: true, filter: []}}}
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
    assert settings["plugins"][0]["enabled"] is False
    assert settings["routes"] == [{"uri": "/user/:id", "plugins": {"fault": False}}]
    assert done.err.splitlines() == [
        "route '/off': is disabled (status: 0), and left out",
        "route '/user/:id': plugin 'fault': _meta.filter has no counterpart here",
        "route '/user/:id': a part with ':' stands for itself here: write /prefix/*",
        "route '/user/:id': priority has no counterpart here",
        "global rule 'all': plugin 'prometheus' is none of Wasm",
        "services: plugin 'unused' runs for one of them: say with routes where it runs",
        "plugin 'unused': no route names it, so here it runs on every request, without a conf: give it routes (also"
        " from a second file: asgi-wasm import config.yaml apisix.yaml)",
    ]


DISABLED = """
wasm: {plugins: [{name: a, file: a.wasm}, {name: b, file: b.wasm}, {name: c, file: c.wasm}, {name: d, file: d.wasm}]}
routes:
- {uri: /x/*, plugins: {a: {conf: one}, b: {conf: two, _meta: {disable: false}}}}
- {uri: /x/health, plugins: {a: {conf: one, _meta: {disable: true}}, c: {_meta: {disable: true}}}}
- {uri: /y, plugins: {c: {_meta: {disable: true}}}}
global_rules:
- {id: all, plugins: {c: {conf: all}, d: {conf: off, _meta: {disable: true}}}}
"""


def test_what_apisix_disables(tmp_path: Path) -> None:
    """On a route: there; of a global rule's plugin a route's word does not matter; where nothing else names it: all."""
    settings, left = imported(tmp_path, DISABLED)
    assert [(each["name"], each.get("enabled"), each.get("conf")) for each in settings["plugins"]] == [
        *(("a", None, None), ("b", None, None), ("c", None, "all"), ("d", False, None)),
    ]
    assert settings["routes"] == [
        {"uri": "/x/*", "plugins": {"a": {"conf": "one"}, "b": {"conf": "two"}}},
        {"uri": "/x/health", "plugins": {"a": False}},
    ]
    assert left == ""
