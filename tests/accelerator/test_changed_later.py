"""A start message that is changed when it has been sent: what plugins read later is what the app has said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from tests.driving import http_scope
from tests.host.resident.ways import BODIES, WAYS, client_of, heard, probe_without

HEADERS = ["proxy_on_request_headers", "proxy_on_response_headers"]
READS = ['get_header_map_value 2 ":status"', 'get_header_map_value 2 "x-a"', 'get_header_map_value 2 "x-later"']
READ = ['":status" = 0 -> "200"', '"x-a" = 0 -> "1"', '"x-later" = 1']


def clear(message: Message) -> None:
    message.clear()


def say_otherwise(message: Message) -> None:
    message["status"] = 418
    message["headers"].append((b"x-later", b"1"))


def put_another_list(message: Message) -> None:
    """As Starlette's `MutableHeaders` does, in middlewares outside."""
    message["headers"] = [(b"x-later", b"1")]


async def played(change: Callable[[Message], None], by: str, plugin: dict[str, Any], way: dict[str, Any]) -> list[str]:
    """What the plugin logs where the app, or the server, changes it so."""
    lines: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]}
        await send(start)
        if by == "app":
            change(start)
        await send({"type": "http.response.body", "body": b"ok", "more_body": True})
        await send({"type": "http.response.body", "body": b"ok"})

    async def send(message: Message) -> None:
        if by == "server" and message["type"] == "http.response.start":
            change(message)

    middleware = WasmMiddleware(app, settings={"plugins": [{"name": "p", **plugin}], **way})
    with heard(lines.append):
        async with middleware:
            for _ in range(2):
                await middleware(http_scope(), client_of([]), send)
    return lines


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("by", ["app", "server"])
@pytest.mark.parametrize("change", [clear, say_otherwise, put_another_list])
@pytest.mark.parametrize("without", [[*BODIES, *HEADERS], BODIES, HEADERS, []])
async def test_a_log_reads_what_the_app_has_said(
    change: Callable[[Message], None], by: str, without: list[str], way: dict[str, Any], tmp_path: Path
) -> None:
    """Of a plugin that sees headers, bodies, both or nothing before."""
    probe = probe_without(tmp_path / "probe.wasm", without)
    conf = "\n".join(f"log: {read}" for read in READS)
    lines = await played(change, by, {"file": probe, "conf": conf}, way)
    assert [line.partition("value 2 ")[2] for line in lines] == READ * 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("by", ["app", "server"])
@pytest.mark.parametrize("change", [clear, say_otherwise, put_another_list])
@pytest.mark.parametrize("headers", ["", 'response_headers: add_header_map_value 2 "x-b" "1"'])
async def test_a_piece_goes_on_as_what_the_app_has_said(
    change: Callable[[Message], None], by: str, headers: str, way: dict[str, Any], tmp_path: Path
) -> None:
    """One that a plugin makes longer, and the end that another holds back for a while."""
    longer = 'response_body: set_buffer_bytes 1 0 9 "longer"\nresponse_end: return 1\nresponse_end: continue_stream 1'
    logs = "\n".join(f"log: {read}" for read in READS)
    plugin = {"file": probe_without(tmp_path / "probe.wasm", []), "conf": f"{headers}\n{longer}\n{logs}"}
    lines = await played(change, by, plugin, way)
    assert [line.partition("value 2 ")[2] for line in lines if line.startswith("log")] == READ * 2
