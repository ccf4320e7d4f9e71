"""What the plugins of this repository say when they are stopped: nothing, whether a request has been or not."""

from __future__ import annotations

import logging

import pytest

from tests.driving import answering, request
from tests.plugins.conftest import PLUGINS, Wrap

CONFS = {
    "counter": "hits",
    "fault_injection": '{"http_status": 200, "body": "hello"}',
    "local_reply": '{"phase": "request_headers", "http_status": 403}',
}
# Those that start without an upstream.
NAMES = [
    f"{path.parent.name}/{path.stem}"
    for path in sorted(PLUGINS.glob("*/*.wasm"))
    if path.parent.name in {*CONFS, "body", "headers", "lifecycle", "probe", "root_id", "trailers"}
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", ["stopped", "the loop ends"])
async def test_stopped_without_a_complaint(wrap: Wrap, caplog: pytest.LogCaptureFixture, name: str, way: str) -> None:
    caplog.set_level(logging.WARNING)
    plugin = name.partition("/")[0]
    conf, root_id = CONFS.get(plugin, ""), "first" if plugin == "root_id" else plugin

    async def main() -> None:
        middleware = wrap(answering(b"app"), name, conf=conf, root_id=root_id)
        await middleware.start()
        assert (await request(middleware)).status in (200, 403)
        if way == "stopped":
            await middleware.stop()

    await main()
    assert [record.getMessage() for record in caplog.records if "wasmer" not in record.getMessage()] == []
