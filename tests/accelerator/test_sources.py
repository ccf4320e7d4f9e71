"""Which accelerator there is, and that one of other sources, or for another Python, is not used."""

from __future__ import annotations

import importlib
import logging
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.accelerator import MODULE, AcceleratorError, load
from asgi_wasm.asgi.lane.native import NativeRequest
from tests.accelerator.apps import HEADERS, ROOT, App, exchange, needs_accelerator, running
from tests.driving import http_scope


async def test_without_the_module_a_start_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)
    caplog.set_level(logging.INFO, "asgi_wasm.host")

    app = App()
    async with running(app, "auto") as middleware:
        await exchange(middleware, http_scope(headers=[(b"host", b"h")]))
    assert not isinstance(app.requests[0].__self__, NativeRequest)
    told = [text for text in caplog.messages if "portable lane" in text]
    assert told == [
        "the portable lane runs, without the accelerator: it was not built, for want of a C compiler or a wheel for"
        " this platform"
    ]


async def test_without_the_module_that_is_required_there_is_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)

    with pytest.raises(AcceleratorError, match='accelerator is "required", but it was not built'):
        async with running(App(), "required"):
            pass


def test_it_is_for_this_pythons_kind_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(AcceleratorError, match="not proven without the global"):
        load()
    monkeypatch.setattr(sys.implementation, "name", "other")
    with pytest.raises(AcceleratorError, match="this is other"):
        load()


@needs_accelerator
@pytest.mark.parametrize("told", [1, None])
@pytest.mark.parametrize("name", ["WINDOW_SIZE", "SOURCES"])
async def test_one_of_other_sources_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, told: int | None
) -> None:
    module = importlib.import_module(MODULE)
    if told is None:
        monkeypatch.delattr(module, name)
    else:
        monkeypatch.setattr(module, name, told)
    with pytest.raises(AcceleratorError, match="built from other sources than these: install asgi-wasm again"):
        load()

    async def main(accelerator: str) -> None:
        app = App()
        async with running(app, accelerator) as middleware:
            await exchange(middleware, http_scope())
        assert len(app.seen) == 1

    await main("auto")
    told_of = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told_of == [
        "the portable lane runs, without the accelerator: "
        "it was built from other sources than these: install asgi-wasm again"
    ]
    with pytest.raises(AcceleratorError, match='accelerator is "required", but it was built from other sources'):
        await main("required")


def test_sources_have_a_number_that_each_of_them_changes(tmp_path: Path) -> None:
    def number() -> int | None:
        found: int | None = runpy.run_path(str(folder / "sources.py"))["number"]()
        return found

    package = ROOT / "asgi_wasm"
    folder, layout = tmp_path / "accelerator", tmp_path / "host/resident/layout.h"
    shutil.copytree(package / "accelerator", folder)
    layout.parent.mkdir(parents=True)
    shutil.copy(package / "host/resident/layout.h", layout)
    numbers, files = {number()}, [*sorted(folder.glob("*.[ch]")), layout]
    assert len(files) > 20
    for file in files:
        file.write_bytes(file.read_bytes() + b"\n")
        numbers.add(number())
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
        assert number() in numbers
    assert len(numbers) == 1 + len(files) and None not in numbers
    (folder / "send.c").unlink()
    assert number() is None


@needs_accelerator
def test_without_sources_none_can_be_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.accelerator.number", lambda: None)
    monkeypatch.delattr(importlib.import_module(MODULE), "SOURCES")
    load()


@needs_accelerator
async def test_it_enters_kernels_only() -> None:
    async def main() -> None:
        middleware = WasmMiddleware(
            App(),
            settings={"plugins": [{"name": "p", "file": HEADERS}], "accelerator": "required", "resident": "off"},
        )
        async with middleware:
            pass

    with pytest.raises(AcceleratorError, match="leaves out"):
        await main()
