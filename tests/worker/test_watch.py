"""Reload when a file changes: that of the settings, that of a plugin."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from asgi_wasm import MissingExtraError, WasmMiddleware
from tests.driving import answering, run, until
from tests.serving import ROOT
from tests.worker.versions import Configured, becomes, version


@pytest.fixture
def watchfiles() -> None:
    pytest.importorskip("watchfiles", reason="watchfiles has no wheel for this Python")


@pytest.mark.usefixtures("watchfiles")
def test_watch_follows_the_settings_file(configured: Configured, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is wrong changes nothing, and is said once."""

    async def main() -> None:
        configured.write("1", watch="true")
        async with configured.served() as app:
            assert await version(app) == "1"
            configured.write("2", watch="true")
            await becomes(app, "2")
            configured.file.write_text("plugins: [\n")
            await until(lambda: "were not reloaded, and those from before run on: wasm.yaml" in caplog.text)
            assert await version(app) == "2"
            configured.write("3", watch="true")
            await becomes(app, "3")
            # Without it, nothing is followed any more.
            configured.write("4")
            await becomes(app, "4")
            configured.write("5")
            await asyncio.sleep(0.5)
            assert await version(app) == "4"

    with caplog.at_level(logging.INFO):
        run(main)
    assert caplog.text.count("the plugins were reloaded") == 3


@pytest.mark.usefixtures("watchfiles")
@pytest.mark.parametrize("way", ["replaced", "written over", "a link moved"])
def test_watch_follows_a_plugins_file(configured: Configured, tmp_path: Path, way: str) -> None:
    """A volume of Kubernetes is a link to a folder, moved at once."""
    for name, plugin in (("one", "headers/rust.wasm"), ("two", "trailers/c.wasm")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plugin.wasm").write_bytes((ROOT / "plugins" / plugin).read_bytes())
    link, file = tmp_path / "now", tmp_path / "plugin.wasm"
    if way == "a link moved":
        link.symlink_to("one")
        file.symlink_to("now/plugin.wasm")
    else:
        file.write_bytes((tmp_path / "one/plugin.wasm").read_bytes())

    def change() -> None:
        if way == "a link moved":
            (tmp_path / "next").symlink_to("two")
            os.replace(tmp_path / "next", link)
        elif way == "replaced":
            os.replace(tmp_path / "two/plugin.wasm", file)
        else:
            file.write_bytes((tmp_path / "two/plugin.wasm").read_bytes())

    async def main() -> None:
        conf = Configured.conf("1")
        entry = {"name": "p", "file": file, "conf": conf}
        app = WasmMiddleware(answering(b"app"), settings={"plugins": [entry], "watch": True})
        async with app:
            assert await version(app) == "1"
            change()
            await becomes(app, "none")

    run(main)


@pytest.mark.usefixtures("watchfiles")
def test_watch_beside_a_log(configured: Configured, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What else changes in the folder is not told of: a log there would grow by that, and that be a change again."""
    log = tmp_path / "server.log"

    async def main() -> None:
        configured.write("1", watch="true")
        async with configured.served() as app:
            for number in range(5):
                log.write_text(str(number))
                await asyncio.sleep(0.1)
            assert "detected" not in caplog.text
            configured.write("2", watch="true")
            await becomes(app, "2")

    with caplog.at_level(logging.INFO):
        run(main)


async def test_watch_where_the_system_tells_of_no_changes(
    configured: Configured, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All places of inotify are taken, say: files are looked at all the same."""

    def nothing_left(*_: object, **__: object) -> None:
        raise OSError("OS file watch limit reached")

    pytest.importorskip("watchfiles")
    monkeypatch.setattr("watchfiles.main.RustNotify", nothing_left)
    monkeypatch.setattr("asgi_wasm.worker.watch._LOOK_MILLISECONDS", 20)
    configured.write("1", watch="true")
    async with configured.served() as app:
        assert await version(app) == "1"
        await until(lambda: "cannot tell of changes (OS file watch limit reached)" in caplog.text)
        configured.write("2", watch="true")
        await becomes(app, "2")


async def test_watch_without_its_extra(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.worker.watch.find_spec", lambda name: None)
    configured.write("1", watch="true")

    with pytest.raises(MissingExtraError, match=r"the settings say 'watch': pip install 'asgi-wasm\[watch\]'"):
        async with configured.served():
            pass
