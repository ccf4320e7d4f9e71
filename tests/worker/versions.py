"""Plugins of which each reload is another version, and what version answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.testing import Hostcalls
from tests.driving import answering, request
from tests.guests import RESPONSE_HEADERS, Guest
from tests.serving import ROOT
from tests.waiting import SECONDS

HEADERS = ROOT / "plugins/headers/rust.wasm"


class Configured:
    """Settings that a test changes, of a plugin that marks requests and responses with its conf."""

    def __init__(self, tmp_path: Path) -> None:
        self.file = tmp_path / "wasm.yaml"

    def write(self, conf: str, **more: Any) -> None:
        lines = [f"plugins: [{{name: headers, file: {HEADERS}, conf: '{self.conf(conf)}'}}]"]
        lines += [f"{name}: {value}" for name, value in more.items()]
        text = "\n".join([*lines, ""])
        hidden = self.file.with_suffix(".new")
        hidden.write_text(text)
        hidden.replace(self.file)

    @staticmethod
    def conf(version: str) -> str:
        return (
            f'{{"request": {{"add": {{"x-seen": "{version}"}}}}, "response": {{"add": {{"x-version": "{version}"}}}}}}'
        )

    @asynccontextmanager
    async def served(self, app: Any = None) -> AsyncIterator[WasmMiddleware]:
        middleware = WasmMiddleware(app or answering(b"app"), settings=str(self.file))
        async with middleware:
            yield middleware


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


async def version(app: Any) -> str:
    return ((await request(app)).header(b"x-version") or b"none").decode()


class Versions:
    """A guest of which each start is a version; it pauses where it is told to."""

    def __init__(self) -> None:
        self.starts = 0
        self.ended: list[int] = []
        self.pausing = False

    @property
    def guest(self) -> Guest:
        roots: dict[int, int] = {}

        def on_configure(api: Hostcalls, root: int, size: int) -> int:
            self.starts += 1
            api.host.version = self.starts  # type: ignore[attr-defined]
            roots[id(api.host)] = root
            return 1

        def on_request_headers(api: Hostcalls, *_: int) -> int:
            return int(self.pausing)

        def on_response_headers(api: Hostcalls, *_: int) -> int:
            api.add_header_map_value(RESPONSE_HEADERS, b"x-version", b"%d" % api.host.version)  # type: ignore[attr-defined]
            return 0

        def on_done(api: Hostcalls, context: int) -> int:
            if roots.get(id(api.host)) == context:
                self.ended.append(api.host.version)  # type: ignore[attr-defined]
            return 1

        return Guest(
            on_configure=on_configure,
            on_request_headers=on_request_headers,
            on_response_headers=on_response_headers,
            on_done=on_done,
        )


async def becomes(app: Any, wanted: str) -> None:
    """Ask until the answer is of that version."""
    deadline = asyncio.get_running_loop().time() + SECONDS
    while await version(app) != wanted:
        assert asyncio.get_running_loop().time() < deadline, "it was not reloaded"
        await asyncio.sleep(0.02)
