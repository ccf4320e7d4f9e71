"""Every plugin has cases, and a configuration that a plugin refuses is refused by both hosts."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from tests.conformance import envoy as envoy_module
from tests.conformance import hosts as hosts_module
from tests.conformance.cases import Case
from tests.conformance.cases_plugins import CHAINS
from tests.conformance.chains import PLUGINS, Chain
from tests.conformance.comparing import differences
from tests.conformance.hosts import asgi_wasm, both
from tests.conformance.logs import LogLine
from tests.conformance.plugin_chains import chain, entry
from tests.conformance.plugin_requests import SMALL
from tests.conformance.runner import Runner

_MANIFEST = sorted(json.loads((PLUGINS / "manifest.json").read_text()))
_HAVE_CASES = {plugin.file for item in CHAINS for plugin in item.plugins}


# Why a plugin is not run here.
_APART = {"grpc_probe/short": "Envoy does not link the hostcalls of an old SDK that it imports; see test_grpc"}


@pytest.mark.parametrize("plugin", _MANIFEST)
def test_every_plugin_is_compared(plugin: str) -> None:
    if plugin in _HAVE_CASES:
        return
    if plugin in _APART:
        pytest.skip(_APART[plugin])
    # None of its own: without a configuration, on a few requests.
    alone = chain("alone", entry(plugin))
    cases = [Case(alone.name, name, steps, "") for name, steps in SMALL.items()]
    with both([alone]) as hosts:
        runner = Runner(hosts, cases)
        try:
            for case in cases:
                compared = runner.compared(case)
                assert not compared.differing(), "\n" + differences(compared)
        finally:
            runner.close()


_REFUSED = [
    *(
        chain(f"{language}", entry(f"fault_injection/{language}", conf))
        for language, conf in {
            "rust": "",
            "go": '{"http_status": 42}',
            "assemblyscript": '{"percentage": "all"}',
            "c": "[]",
        }.items()
    ),
    chain("headers", entry("headers/rust", "{")),
    chain("body", entry("body/go", {"mode": "unheard-of"})),
    chain("local-reply", entry("local_reply/assemblyscript", "no JSON")),
    chain("root-id", entry("root_id/assemblyscript", root_id="third")),
]


@pytest.mark.parametrize("refused", _REFUSED, ids=lambda item: item.name)
def test_refused_configuration(refused: Chain) -> None:
    with pytest.raises(RuntimeError) as here, asgi_wasm([refused], {}, "info"):
        pass
    with pytest.raises(RuntimeError) as there, envoy_module.envoy([refused], {refused.name: 1}):
        pass
    ours = _words(str(here.value), hosts_module.log_line)
    # Envoy goes on to `on_vm_start` after a trap in `on_context_create`, so the plugin may say more there.
    assert ours
    assert _words(str(there.value), envoy_module.log_line)[: len(ours)] == ours


def test_fail_open_lets_a_server_start_only_here() -> None:
    refused = chain("refused", entry("fault_injection/c", "no JSON", failure_policy="fail_open"))
    with pytest.raises(RuntimeError, match="conf is not JSON"), envoy_module.envoy([refused], {refused.name: 1}):
        pass
    with asgi_wasm([refused], {}, "info") as here:
        assert httpx.get(f"http://127.0.0.1:{here.ports[refused.name]}/?body=served").text == "served"


def _words(text: str, parse: Callable[[str], LogLine | None]) -> list[tuple[str, str]]:
    """What plugins said, in what a host printed."""
    found: list[LogLine] = []
    for line in text.splitlines():
        try:
            parsed = parse(line)
        except ValueError:
            continue
        found += [parsed] if parsed is not None else []
    return [(line.level, line.text) for line in found]
