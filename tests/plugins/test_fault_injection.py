"""The same plugin from four SDKs behaves the same, on every engine."""

from __future__ import annotations

import json

import pytest

from asgi_wasm import PluginStartError
from tests.driving import answering, request
from tests.plugins.conftest import Wrap

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
async def test_answers_in_the_apps_stead(wrap: Wrap, language: str) -> None:
    app = wrap(answering(b"app"), f"fault_injection/{language}", conf=CONF, root_id="fault_injection")
    await app.start()
    for _ in range(3):
        response = await request(app)
        assert (response.status, response.body) == (200, b"hello world")
        assert response.header(b"x-wasm-plugin") == f"fault_injection/{language}".encode()
    await app.stop()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("body", [(), (b"a", b"b")], ids=["no-body", "body"])
async def test_lets_pass(wrap: Wrap, language: str, body: tuple[bytes, ...]) -> None:
    conf = json.dumps(CONF | {"percentage": 0})
    app = wrap(answering(b"from ", b"app"), f"fault_injection/{language}", conf=conf, root_id="fault_injection")
    await app.start()
    response = await request(app, "POST", body=body)
    assert (response.status, response.chunks) == (200, [b"from ", b"app"])
    assert response.header(b"x-wasm-plugin") is None
    await app.stop()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("conf", "reason"), BAD_CONFS.items(), ids=lambda value: value or "empty")
async def test_refuses_a_conf(wrap: Wrap, language: str, conf: str, reason: str) -> None:
    app = wrap(answering(), f"fault_injection/{language}", conf=conf, root_id="fault_injection")
    with pytest.raises(PluginStartError, match="on_configure answered false") as caught:
        await app.start()
    assert f"its last words: fault_injection: {reason}" in str(caught.value)
    assert caught.value.plugin == "fault_injection"
    assert caught.value.file.endswith(f"{language}.wasm")
