"""The order of callbacks, line by line as the real Envoy had it (`envoy_lifecycle.json`)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm.testing import WasmPlugin
from tests.driving import settled as settle
from tests.plugins.conftest import Make

RECORD = json.loads(Path(__file__).with_name("envoy_lifecycle.json").read_text())["versions"]
REPLY, PAUSE = {"x-lifecycle": "reply"}, {"x-lifecycle": "pause"}
BODY = b"b" * 19

# Name of the record -> the app's answer, and the request.
CASES: dict[str, tuple[bytes | list[bytes], dict[str, Any]]] = {
    "GET, response with content-length": (BODY, {}),
    "GET, response in two chunks": ([b"c" * 129, b"c" * 129], {}),
    "HEAD": (BODY, {"method": "HEAD"}),
    "POST, body of 3 bytes with content-length": (BODY, {"method": "POST", "body": b"abc"}),
    "POST, body of 3 and 4 bytes in chunks": (BODY, {"method": "POST", "body": [b"abc", b"defg"]}),
    "GET, local reply": (b"", {"headers": REPLY}),
    "POST, local reply before the body of 3 bytes is read": (
        b"",
        {"method": "POST", "headers": REPLY, "body": b"abc"},
    ),
    "GET, paused until the next tick": (BODY, {"headers": PAUSE}),
    "POST, body of 3 bytes, paused until the next tick": (BODY, {"method": "POST", "headers": PAUSE, "body": b"abc"}),
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


def said(plugin: WasmPlugin) -> list[str]:
    return [line.text for line in plugin.logs if not line.by_host]


@pytest.fixture
def lifecycle(plugin: Make) -> Callable[..., WasmPlugin]:
    return lambda version, conf="conf", **more: plugin(
        f"lifecycle/abi_{version.replace('.', '_')}", conf, log_level="debug", **more
    )


@pytest.mark.parametrize("version", RECORD)
@pytest.mark.parametrize("case", CASES)
async def test_one_request(lifecycle: Callable[..., WasmPlugin], version: str, case: str) -> None:
    answer, asked = CASES[case]
    plugin = lifecycle(version, vm_conf="vmconf")
    plugin.app.respond(body=answer)
    await plugin.start()
    begin = len(said(plugin))
    request = plugin.begin(**{"method": "GET", **asked})
    while not request.done():
        # Most need none; those that are paused go on by a tick.
        await plugin.advance(0.01)
    assert normal(said(plugin)[begin:]) == normal(RECORD[version][case])


@pytest.mark.parametrize("version", RECORD)
async def test_a_client_that_goes_in_the_middle_of_its_body(lifecycle: Callable[..., WasmPlugin], version: str) -> None:
    plugin = lifecycle(version, vm_conf="vmconf")
    await plugin.start()
    begin = len(said(plugin))
    connection = await plugin.connect("POST", headers={"content-length": "9"})
    connection.feed(b"abc", more=True)
    connection.hang_up()
    await connection.over()
    assert normal(said(plugin)[begin:]) == normal(RECORD[version]["POST, client gone after 3 of 9 bytes"])


@pytest.mark.parametrize("version", RECORD)
async def test_start_and_stop(lifecycle: Callable[..., WasmPlugin], version: str) -> None:
    plugin = lifecycle(version, vm_conf="vmconf")
    await plugin.start()
    await plugin.stop()
    started = [line for line in RECORD[version]["start"] if not line.startswith("log level")]
    assert [line for line in said(plugin) if not line.startswith("log level")] == started + RECORD[version]["stop"]


@pytest.mark.parametrize("version", RECORD)
async def test_done_one_tick_later(lifecycle: Callable[..., WasmPlugin], version: str) -> None:
    """`on_done` answers false: `on_delete` waits for `proxy_done`."""
    plugin = lifecycle(version, "slow")
    await plugin.start()
    await plugin.stop()
    await settle()
    assert said(plugin)[-1:] == RECORD[version]["stop, not done at once"]
