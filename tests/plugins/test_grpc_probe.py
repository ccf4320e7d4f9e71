"""gRPC callback by callback, by a plugin without an SDK, against a real server: as the real Envoy has it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.driving import answering, request, run
from tests.grpc_server import Server, deaf_server, grpc_server, until
from tests.plugins.conftest import Wrap
from tests.plugins.grpc_cases import CASES, normal
from tests.serving import free_port

_QUIET_SECONDS = 0.1


def probe(
    wrap: Wrap, caplog: pytest.LogCaptureFixture, script: str, count: int, file: str = "grpc_probe/c"
) -> tuple[list[str], Server]:
    """What the probe logs of its script: ``count`` lines, and whatever comes for a while after them."""

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "asgi_wasm.plugin.grpc_probe"]

    async def main() -> Server:
        with deaf_server() as deaf:
            async with grpc_server() as server:
                ports = {"backend": server.port, "dead": free_port(), "deaf": deaf}
                upstreams = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
                app = wrap(answering(), file, upstreams=upstreams, conf=script)
                await app.start()
                await request(app)
                await until(lambda: len(lines()) >= count)
                await asyncio.sleep(_QUIET_SECONDS)
                await app.stop()
                return server

    with caplog.at_level(logging.INFO, logger="asgi_wasm"):
        server = run(main)
    return lines(), server


@pytest.mark.parametrize("name", CASES)
def test_as_in_envoy(wrap: Wrap, caplog: pytest.LogCaptureFixture, name: str) -> None:
    case = CASES[name]
    lines, _ = probe(wrap, caplog, case.script, len(case.lines))
    assert normal(lines) == case.lines
