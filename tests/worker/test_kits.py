"""What stands beside plugins is compiled once for an engine, whatever the number of plugins."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.engines.cache import ModuleCache
from asgi_wasm.engines.wasmtime import WasmtimeEngine
from asgi_wasm.worker.kits import Kits
from tests.plugins.conftest import PLUGINS

HEADERS = PLUGINS / "headers" / "c.wasm"


@pytest.mark.parametrize(("resident", "kernels"), [("auto", 1), ("off", 0)])
async def test_plugins_share_the_modules_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resident: str, kernels: int
) -> None:
    loaded: list[int] = []
    load = ModuleCache.load

    def counted(cache: ModuleCache, engine: Any, code: bytes, digest: str | None = None) -> Any:
        loaded.append(len(code))
        return load(cache, engine, code, digest)

    monkeypatch.setattr(ModuleCache, "load", counted)
    plugins = [{"name": f"p{index}", "file": HEADERS} for index in range(3)]
    settings = {"plugins": plugins, "cache_dir": tmp_path / "cache", "resident": resident}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        """Nobody calls it."""

    async with WasmMiddleware(app, settings=settings):
        pass
    assert len(loaded) == 3 + 4 * kernels


def test_nothing_stands_beside_what_an_engine_cannot_put_it_beside(tmp_path: Path) -> None:
    cache, public = ModuleCache(tmp_path / "cache"), WasmtimeEngine(raw=False)
    code = HEADERS.read_bytes()
    assert Kits(public, cache).kit_for(public.compile(code)) is None


def test_a_digest_that_is_known_names_the_same_entry(tmp_path: Path) -> None:
    engine, cache, code = WasmtimeEngine(), ModuleCache(tmp_path / "cache"), HEADERS.read_bytes()
    assert cache.load(engine, code)[1] is False
    assert cache.load(engine, code, sha256(code).hexdigest())[1] is True
