"""Both hosts come up and answer alike."""

from __future__ import annotations

import httpx

from tests.conformance.chains import Chain, PluginEntry
from tests.conformance.hosts import both, settle


def test_one_plugin_in_both() -> None:
    entry = PluginEntry("fault", "fault_injection/c", conf='{"http_status": 418, "body": "teapot"}')
    with both([Chain("teapot", (entry,))]) as hosts:
        answers = []
        for host in (hosts.envoy, hosts.asgi_wasm):
            answer = httpx.get(f"http://127.0.0.1:{host.ports['teapot']}/")
            answers.append((answer.status_code, answer.text, answer.headers["x-wasm-plugin"]))
            settle(host)
        assert answers == [(418, "teapot", "fault_injection/c")] * 2
        assert hosts.asgi_wasm.take_seen() == {}
