"""Reload of plugins that cannot run, while requests come: one sentence says why, and nobody notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import PluginError, WasmMiddleware
from tests.driving import answering, request, until
from tests.engines.wat import wasm

LOOP = "(loop $l (br $l))"


def plugin(version: str, configure: str = "(i32.const 1)", more: str = "") -> bytes:
    """It puts its version, a digit, on each response."""
    return wasm(
        f"""(module (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 100) "x-version{version}")
        (func (export "proxy_abi_version_0_2_1")) {more}
        (func (export "malloc") (param i32) (result i32) (i32.const 8))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (call $add (i32.const 2) (i32.const 100) (i32.const 9) (i32.const 109) (i32.const 1)))
        (func (export "proxy_on_configure") (param i32 i32) (result i32) {configure}))"""
    )


# A version that nobody may ever see.
REFUSED: dict[str, bytes] = {
    "empty": b"",
    "cut in its head": b"\0asm\1\0\0",
    "cut": plugin("9")[:200],
    "text": b"(module)",
    "not WebAssembly's version": b"\0asm\2\0\0\0",
    "no plugin": wasm("(module)"),
    "answers false": plugin("9", "(i32.const 0)"),
    "traps": plugin("9", "unreachable"),
    "loops": plugin("9", LOOP),
    "loops in its start": plugin("9", more=f"(func $s {LOOP}) (start $s)"),
    "wants a memory": plugin("9").replace(b"memory", b"Memory"),
}


class Clients:
    """Some that ask again and again; what they saw."""

    def __init__(self) -> None:
        self.seen: set[tuple[int, bytes, tuple[bytes, ...]]] = set()
        self.requests = 0
        self._over = False

    async def _one(self, app: WasmMiddleware) -> None:
        while not self._over:
            response = await request(app)
            versions = tuple(value for name, value in response.headers if name == b"x-version")
            self.seen.add((response.status, response.body, versions))
            self.requests += 1
            await asyncio.sleep(0)

    @asynccontextmanager
    async def asking(self, app: WasmMiddleware) -> AsyncIterator[None]:
        tasks = [asyncio.ensure_future(self._one(app)) for _ in range(10)]
        try:
            yield
        finally:
            self._over = True
            await asyncio.gather(*tasks)


def served(folder: Path, **settings: Any) -> tuple[Path, WasmMiddleware]:
    file = folder / "p.wasm"
    file.write_bytes(plugin("1"))
    plugins = [{"name": "p", "file": file}]
    settings = {"plugins": plugins, "cache_dir": folder / "cache", "limits": {"callback_ms": 800}, **settings}
    return file, WasmMiddleware(answering(b"app"), settings=settings)


async def test_nobody_notices(tmp_path: Path) -> None:
    file, app = served(tmp_path)
    clients = Clients()

    async with app, clients.asking(app):
        for content in REFUSED.values():
            file.write_bytes(content)
            with pytest.raises(PluginError) as raised:
                await app.reload()
            assert str(raised.value).startswith("plugin 'p'") and "\n" not in str(raised.value)
            before = clients.requests
            await until(lambda before=before: clients.requests > before + 10)  # type: ignore[misc]
        assert [plugin.state.value for plugin in app.status().plugins] == ["running"]
        file.write_bytes(plugin("2"))
        await app.reload()
        assert [value for name, value in (await request(app)).headers if name == b"x-version"] == [b"2"]
    assert clients.seen <= {(200, b"app", (b"1",)), (200, b"app", (b"2",))}


async def test_a_file_that_is_still_being_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each piece may be looked at; what is whole at last runs."""
    pytest.importorskip("watchfiles", reason="the extra watch is not installed")
    file, app = served(tmp_path, watch=True)
    clients = Clients()

    async with app, clients.asking(app):
        await asyncio.sleep(0.3)
        whole = plugin("2")
        with file.open("wb") as stream:
            for begin in range(0, len(whole), 80):
                stream.write(whole[begin : begin + 80])
                stream.flush()
                await asyncio.sleep(0.25)
        await until(lambda: (200, b"app", (b"2",)) in clients.seen)
    assert clients.seen == {(200, b"app", (b"1",)), (200, b"app", (b"2",))}
    assert "Traceback" not in caplog.text
