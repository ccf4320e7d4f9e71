"""The same plugin from four SDKs behaves the same, on every engine."""

from __future__ import annotations

import pytest

from asgi_wasm import PluginStartError
from tests.plugins.conftest import Make

LANGUAGES = ["rust", "go", "assemblyscript", "c"]
CONF = {"http_status": 200, "body": "hello world", "percentage": 100}
BAD_CONFS = {
    "": "conf is empty",
    "{": "conf is not JSON",
    "[1]": "conf is not an object",
    '{"http_status": 99}': "http_status is not an integer from 200 to 599",
    '{"http_status": "200"}': "http_status is not an integer from 200 to 599",
    '{"body": 1}': "body is not a string",
    '{"percentage": 101}': "percentage is not an integer from 0 to 100",
}


@pytest.mark.parametrize("language", LANGUAGES)
async def test_answers_in_the_apps_stead(plugin: Make, language: str) -> None:
    injecting = plugin(f"fault_injection/{language}", CONF, root_id="fault_injection")
    for _ in range(3):
        exchange = await injecting.get()
        assert (exchange.status, exchange.body, exchange.app) == (200, b"hello world", None)
        assert exchange.headers["x-wasm-plugin"] == f"fault_injection/{language}"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("body", [(), (b"a", b"b")], ids=["no-body", "body"])
async def test_lets_pass(plugin: Make, language: str, body: tuple[bytes, ...]) -> None:
    passing = plugin(f"fault_injection/{language}", CONF | {"percentage": 0}, root_id="fault_injection")
    passing.app.respond(body=[b"from ", b"app"])
    exchange = await passing.post(body=body)
    assert (exchange.status, exchange.chunks) == (200, [b"from ", b"app"])
    assert exchange.app is not None and exchange.app.body == b"".join(body)
    assert "x-wasm-plugin" not in exchange.headers


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("conf", "reason"), BAD_CONFS.items(), ids=lambda value: value or "empty")
async def test_refuses_a_conf(plugin: Make, language: str, conf: str, reason: str) -> None:
    with pytest.raises(PluginStartError, match="on_configure answered false") as caught:
        await plugin(f"fault_injection/{language}", conf, root_id="fault_injection").start()
    assert f"its last words: fault_injection: {reason}" in str(caught.value)
    assert caught.value.plugin == "fault_injection"
    assert caught.value.file.endswith(f"{language}.wasm")
