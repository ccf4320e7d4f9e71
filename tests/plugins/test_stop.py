"""What the plugins of this repository say when they are stopped: nothing, whether a request has been or not."""

from __future__ import annotations

import asyncio
import gc

import pytest

from tests.plugins.conftest import PLUGINS, Make

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
def test_stopped_without_a_complaint(plugin: Make, caplog: pytest.LogCaptureFixture, name: str, way: str) -> None:
    conf, root_id = (
        CONFS.get(name.partition("/")[0], ""),
        "first" if name.startswith("root_id/") else name.partition("/")[0],
    )
    made = plugin(name, conf, root_id=root_id)

    async def main() -> None:
        assert (await made.get()).status in (200, 403)
        if way == "stopped":
            await made.stop()

    asyncio.run(main())
    gc.collect()
    told = [str(line) for line in made.logs if line.level in ("WARN", "ERROR", "CRITICAL")]
    assert [line for line in told if "wasmer" not in line] == []
    # Of the event loop, or of Python.
    assert caplog.records == []
