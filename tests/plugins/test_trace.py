"""The call log of a real plugin."""

from __future__ import annotations

import logging
import re

import pytest

from tests.driving import answering, request
from tests.plugins.conftest import Wrap


@pytest.mark.parametrize("on", [True, False])
async def test_the_log_of_one_request(wrap: Wrap, caplog: pytest.LogCaptureFixture, on: bool) -> None:
    async def main() -> list[str]:
        app = wrap(answering(b"app"), "fault_injection/c", conf={"http_status": 418, "body": "no", "percentage": 100})
        await app.start()
        caplog.clear()
        assert (await request(app)).status == 418
        lines = [record.getMessage() for record in caplog.records if record.name == "asgi_wasm.trace"]
        await app.stop()
        return lines

    with caplog.at_level(5 if on else logging.DEBUG, logger="asgi_wasm.trace"):
        lines = await main()
    if not on:
        assert lines == []
        return
    begin = lines.index("==> fault_injection proxy_on_request_headers(context_id=2, num_headers=4, end_of_stream=1)")
    end = next(
        index for index, line in enumerate(lines) if line.startswith("<== fault_injection proxy_on_request_head")
    )
    inside = lines[begin + 1 : end]
    reply = next(line for line in inside if "proxy_send_local_response(" in line)
    assert re.fullmatch(
        r"  --> proxy_send_local_response\(status_code=418, details_data=\d+, details_size=\d+, body_data=\d+, "
        r"body_size=2, headers_data=\d+, headers_size=\d+, grpc_status=\d+\)",
        reply,
    )
    assert "  <-- proxy_send_local_response = OK" in inside
    assert re.fullmatch(r"<== fault_injection proxy_on_request_headers = \d+", lines[end])
