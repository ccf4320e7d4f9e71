"""A file by HTTPS: fetched once, checked each time, there without a network."""

from __future__ import annotations

import asyncio
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.errors import FetchError, PluginLoadError
from asgi_wasm.fetching.fetcher import Fetcher
from asgi_wasm.specs import PluginSpec, RemoteFile
from asgi_wasm.worker.plugin_file import read_plugin_file
from tests.driving import request
from tests.fetching.site import GOOD, Site, content, digest_of
from tests.plugins.conftest import PLUGINS

RUST = PLUGINS / "fault_injection" / "rust.wasm"


def test_once(site: Site, fetcher: Fetcher, tmp_path: Path) -> None:
    site.answers["/w.wasm"] = content(GOOD)
    file = RemoteFile(site.url("/w.wasm"), digest_of(GOOD))
    for _ in range(3):
        assert fetcher.fetch(file).content == GOOD
        # Another start.
        fetcher = Fetcher(tmp_path / "cache")
    assert site.paths() == ["/w.wasm"]
    kept = tmp_path / "cache" / "fetched"
    assert [each.name for each in kept.iterdir()] == [digest_of(GOOD)]
    assert os.name == "nt" or kept.stat().st_mode & 0o777 == 0o700


def test_offline(site: Site, fetcher: Fetcher) -> None:
    """What is in the cache needs no network; what is not has a sentence."""
    site.answers["/w.wasm"] = content(GOOD)
    digest = digest_of(GOOD)
    assert fetcher.fetch(RemoteFile(site.url("/w.wasm"), digest)).content == GOOD
    away = "https://127.0.0.1:1/w.wasm"
    assert fetcher.fetch(RemoteFile(away, digest)).content == GOOD
    with pytest.raises(FetchError, match=r"127\.0\.0\.1 is not reached \(.*\), and it is not in the cache .*fetched: "):
        fetcher.fetch(RemoteFile(away, digest_of(b"else")))
    with pytest.raises(FetchError, match=r"no\.such\.host\.invalid is not reached"):
        fetcher.fetch(RemoteFile("https://no.such.host.invalid/w", digest_of(b"else")))


def test_another_file(site: Site, fetcher: Fetcher, tmp_path: Path) -> None:
    """It never gets as far as the cache."""
    site.answers["/w.wasm"] = content(b"evil")
    with pytest.raises(FetchError, match=f"is another file: its sha256 is {digest_of(b'evil')}, not {digest_of(GOOD)}"):
        fetcher.fetch(RemoteFile(site.url("/w.wasm"), digest_of(GOOD)))
    assert [*(tmp_path / "cache" / "fetched").iterdir()] == []


@pytest.mark.parametrize("damage", [b"", b"evil", GOOD + b"\0" * (1 << 20)])
def test_a_damaged_cache(site: Site, fetcher: Fetcher, tmp_path: Path, damage: bytes) -> None:
    """Whoever can write to it can not run code here; it is mended."""
    site.answers["/w.wasm"] = content(GOOD)
    file = RemoteFile(site.url("/w.wasm"), digest_of(GOOD))
    fetcher.fetch(file)
    kept = tmp_path / "cache" / "fetched" / digest_of(GOOD)
    kept.write_bytes(damage)
    assert fetcher.fetch(file).content == GOOD
    assert kept.read_bytes() == GOOD
    assert len(site.asked) == 2


def test_several_at_once(site: Site, tmp_path: Path) -> None:
    """Of workers that start together, one fetches."""
    barrier = Barrier(4)
    site.answers["/w.wasm"] = content(GOOD)

    def start(_: int) -> bytes:
        barrier.wait()
        return Fetcher(tmp_path / "cache").fetch(RemoteFile(site.url("/w.wasm"), digest_of(GOOD))).content

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(start, range(4))] == [GOOD] * 4
    if os.name != "nt":
        assert len(site.asked) == 1


def test_a_cache_that_cannot_be_written(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is fetched each time, and the log says so once."""
    (tmp_path / "cache").write_text("a file")
    site.answers["/w.wasm"] = content(GOOD)
    fetcher = Fetcher(tmp_path / "cache")
    for _ in range(2):
        assert fetcher.fetch(RemoteFile(site.url("/w.wasm"), digest_of(GOOD))).content == GOOD
    assert len(site.asked) == 2
    assert [each.levelname for each in caplog.records if each.name == "asgi_wasm.fetching"].count("WARNING") == 1


def test_without_a_digest_it_is_found_out(site: Site, fetcher: Fetcher) -> None:
    site.answers["/w.wasm"] = content(GOOD)
    found = fetcher.fetch(RemoteFile(site.url("/w.wasm")))
    assert found.file == RemoteFile(site.url("/w.wasm"), digest_of(GOOD))


async def test_a_plugin_runs(site: Site, tmp_path: Path) -> None:
    """And the event loop goes on while it is fetched."""
    blob = RUST.read_bytes()
    turns = 0
    site.answers["/fault.wasm"] = content(blob)
    plugin = {"name": "fault", "file": site.url("/fault.wasm"), "sha256": digest_of(blob), "conf": {"http_status": 418}}
    settings = {"plugins": [plugin], "cache_dir": str(tmp_path / "cache")}

    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("the plugin answers")

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> int:
        middleware = WasmMiddleware(app, settings=settings)
        turning = asyncio.ensure_future(turn())
        await middleware.start()
        turning.cancel()
        status = (await request(middleware)).status
        (found,) = middleware.status().plugins
        assert found.sha256 == digest_of(blob)
        await middleware.stop()
        return status

    assert await main() == 418
    assert turns > 50


def test_what_is_no_plugin(site: Site, fetcher: Fetcher) -> None:
    """The sentence names the plugin, the file without its secrets, and the key."""
    site.answers["/w.wasm"] = content(b"<html>")
    file = RemoteFile(site.url("/w.wasm?secret"), digest_of(b"<html>"))
    spec = PluginSpec("waf", file, named_by="asgi-wasm.yaml: plugins.waf.file")
    with pytest.raises(PluginLoadError, match=r"asgi-wasm\.yaml: plugins\.waf\.file: .*WebAssembly") as caught:
        read_plugin_file(spec, fetcher)
    assert re.match(r"plugin 'waf' \(https://127\.0\.0\.1:\d+/w\.wasm#sha256=", str(caught.value))
    assert "secret" not in str(caught.value)
