"""The order of callbacks, line by line as the real Envoy had it (`envoy_lifecycle.json`)."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from tests.driving import answering, request
from tests.plugins.conftest import Wrap

RECORD = json.loads(Path(__file__).with_name("envoy_lifecycle.json").read_text())["versions"]
REPLY, PAUSE = [(b"x-lifecycle", b"reply")], [(b"x-lifecycle", b"pause")]
BODY = b"b" * 19

# Name of the record -> the app's answer, and the request.
CASES: dict[str, tuple[tuple[bytes, ...], dict[str, Any]]] = {
    "GET, response with content-length": ((BODY,), {}),
    "GET, response in two chunks": ((b"c" * 129, b"c" * 129), {}),
    "HEAD": ((BODY,), {"method": "HEAD"}),
    "POST, body of 3 bytes with content-length": ((BODY,), {"method": "POST", "body": [b"abc"]}),
    "POST, body of 3 and 4 bytes in chunks": ((BODY,), {"method": "POST", "body": [b"abc", b"defg"]}),
    "GET, local reply": ((), {"headers": REPLY}),
    "POST, local reply before the body of 3 bytes is read": (
        (),
        {"method": "POST", "headers": REPLY, "body": [b"abc"]},
    ),
    "GET, paused until the next tick": ((BODY,), {"headers": PAUSE}),
    "POST, body of 3 bytes, paused until the next tick": (
        (BODY,),
        {"method": "POST", "headers": PAUSE, "body": [b"abc"]},
    ),
    "POST, client gone after 3 of 9 bytes": ((BODY,), {"method": "POST", "body": [b"abc"], "stays": False}),
}


def normal(lines: list[str]) -> list[str]:
    """Without what differs for a reason.

    Envoy adds headers of its own, so their number differs; and its HTTP/1 codec tells the end of a body by an empty
    last piece, where an ASGI server may tell it with the last bytes.
    """
    result: list[str] = []
    for line in lines:
        line = re.sub(r"^(on_\w+_headers)\((\d+), \d+", r"\1(2, n", line)
        line = re.sub(r"^(on_context_create|on_\w+)\(\d+(, 1\)|\)|, )", r"\1(2\2", line)
        end = re.fullmatch(r"(on_\w+_body)\(2, 0, 1\)", line)
        if end and result and result[-1].startswith(end[1]) and result[-1].endswith(", 0)"):
            result[-1] = result[-1].removesuffix("0)") + "1)"
        else:
            result.append(line)
    return result


@pytest.mark.parametrize("version", RECORD)
@pytest.mark.parametrize("case", CASES)
async def test_one_request(wrap: Wrap, caplog: pytest.LogCaptureFixture, version: str, case: str) -> None:
    chunks, asked = CASES[case]

    async def main() -> list[str]:
        app = wrap(answering(*chunks), f"lifecycle/abi_{version.replace('.', '_')}", conf="conf", vm_conf="vmconf")
        await app.start()
        caplog.clear()
        await request(app, **asked)
        lines = [record.getMessage() for record in caplog.records if record.name.startswith("asgi_wasm.plugin.")]
        await app.stop()
        return lines

    with caplog.at_level(logging.DEBUG, logger="asgi_wasm"):
        lines = await main()
    assert normal(lines) == normal(RECORD[version][case])


@pytest.mark.parametrize("version", RECORD)
async def test_start_and_stop(wrap: Wrap, caplog: pytest.LogCaptureFixture, version: str) -> None:
    async def main() -> None:
        app = wrap(answering(), f"lifecycle/abi_{version.replace('.', '_')}", conf="conf", vm_conf="vmconf")
        await app.start()
        await app.stop()

    with caplog.at_level(logging.INFO, logger="asgi_wasm"):
        await main()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("asgi_wasm.plugin.")]
    started = [line for line in RECORD[version]["start"] if not line.startswith("log level")]
    assert [line for line in lines if not line.startswith("log level")] == started + RECORD[version]["stop"]


@pytest.mark.parametrize("version", RECORD)
async def test_done_one_tick_later(wrap: Wrap, caplog: pytest.LogCaptureFixture, version: str) -> None:
    """`on_done` answers false: `on_delete` waits for `proxy_done`."""

    async def main() -> None:
        app = wrap(answering(), f"lifecycle/abi_{version.replace('.', '_')}", conf="slow")
        await app.start()
        await app.stop()
        await asyncio.sleep(0)

    with caplog.at_level(logging.INFO, logger="asgi_wasm"):
        await main()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("asgi_wasm.plugin.")]
    assert lines[-1:] == RECORD[version]["stop, not done at once"]
