"""One HTTP call by the plugin callouts, and what it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.driving import until
from tests.plugins.callouts import conf, plugged, said
from tests.upstreams import raw

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
RESET = "upstream connect error or disconnect/reset before headers. reset reason: "


def answer_body(lines: Sequence[str]) -> bytes:
    (body,) = [line for line in lines if line.startswith("answer body ")]
    return bytes.fromhex(body.removeprefix("answer body "))


async def call_once(
    caplog: pytest.LogCaptureFixture, step: str, reply: bytes | None = OK, **more: Any
) -> tuple[list[str], bytes]:
    """One call while the plugin is configured: its lines, and the bytes that the server saw."""
    async with raw(lambda *_: reply, closes=True) as (port, seen), plugged(conf(configure=[step]), port, **more):
        await until(lambda: said(caplog, "answer status"))
        sent = b"".join(seen.heads + seen.bodies)
    return said(caplog, "^answer"), sent


def local_answer(status: int, words: str) -> list[str]:
    return [
        f"answer 4 3 {len(words)} 0",
        "answer status 0 ",
        f"answer header :status: {status}",
        f"answer header content-length: {len(words)}",
        "answer header content-type: text/plain",
        f"answer body {words.encode().hex()}",
    ]
