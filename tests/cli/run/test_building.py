"""What `asgi-wasm run --watch` does before it serves: it builds first, and waits for what starts."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from asgi_wasm import PluginError
from asgi_wasm.cli.run.building import build_first, is_source
from asgi_wasm.cli.run.live import Printed
from asgi_wasm.cli.run.serving import Run, _start
from asgi_wasm.middleware import WasmMiddleware
from tests.cli.running import PLUGINS
from tests.driving import answering, request, until

pytest.importorskip("watchfiles", reason="the extra watch is not installed on this Python")

FAULT = PLUGINS / "fault_injection" / "rust.wasm"


async def test_what_does_not_build_waits_for_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "make.py").write_text("import shutil\nshutil.copy('source.txt', 'p.wasm')\n")
    building = asyncio.ensure_future(build_first([sys.executable, "make.py"]))
    told: list[str] = []

    def prints(words: str) -> bool:
        told.append(capsys.readouterr().out)
        return words in "".join(told)

    await until(lambda: prints("failed with exit status 1: waits for the next change of a source"))

    def changed() -> bool:
        # It is watched a moment later.
        (tmp_path / "source.txt").write_text("".join(told))
        return building.done()

    await until(changed)
    await building
    assert (tmp_path / "p.wasm").exists() and prints(
        f"source.txt changed: {shlex.quote(sys.executable)} make.py\nbuilt"
    )


@pytest.mark.parametrize("first", [b"no module", b""])
async def test_a_refused_start_waits_for_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], first: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "p.wasm"
    file.write_bytes(first)
    plugin = {"name": "p", "file": str(file), "conf": '{"http_status": 418}'}
    middleware = WasmMiddleware(answering(), settings={"plugins": [plugin]})
    with pytest.raises(PluginError, match=r"p\.wasm"):
        await _start(Run(["p.wasm"]), middleware, Printed())
    starting = asyncio.ensure_future(_start(Run(["p.wasm"], watch=True), middleware, Printed()))
    await until(lambda: "waits for the next change of p.wasm" in capsys.readouterr().out)
    assert not middleware.status().started and not starting.done()
    shutil.copy(FAULT, tmp_path / "new.wasm")
    (tmp_path / "new.wasm").replace(file)
    await starting
    assert (await request(middleware)).status == 418
    await middleware.stop()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("main.go", True),
        ("src/lib.rs", True),
        ("Cargo.toml", True),
        ("plugin.wasm", False),
        ("plugin.wasm-go-tmp-umask", False),
        ("target/release/deps/x.d", False),
        ("node_modules/a/index.js", False),
        (".pytest_cache/v/cache/lastfailed", False),
        ("src/.lib.rs.swp", False),
        ("src/lib.rs~", False),
        ("build", True),
    ],
)
def test_what_a_build_writes_is_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, expected: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_source(tmp_path / name) is expected
