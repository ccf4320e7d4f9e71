"""How much of the caches is kept, who removes the rest, and what never."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.engines.cache import ModuleCache
from asgi_wasm.engines.wasmtime import WasmtimeEngine
from asgi_wasm.fetching.cache import FetchCache
from asgi_wasm.fetching.kept import GRACE, keep_within, kept_in
from asgi_wasm.worker.loading import compile_all
from tests.cli.running import PLUGINS, run
from tests.fetching.site import digest_of

RUST = PLUGINS / "fault_injection/rust.wasm"
EMPTY = b"\0asm\1\0\0\0"
DAY = 86_400.0


def fetched(cache: Path, name: bytes, *, days: float, size: int = 1000) -> Path:
    """A file that was used so long ago."""
    content = name.ljust(size)
    FetchCache(cache).put(digest_of(content), content)
    path = cache / "fetched" / digest_of(content)
    age(path, days)
    return path


def age(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def names(cache: Path) -> set[str]:
    return {file.path.name for file in kept_in(cache)}


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    old, older, new = (fetched(tmp_path, name, days=days) for name, days in ((b"a", 3), (b"b", 5), (b"c", 1)))
    assert keep_within(tmp_path, 3000, ()) == []
    assert [file.path for file in keep_within(tmp_path, 2999, ())] == [older]
    assert [file.path for file in keep_within(tmp_path, 1000, ())] == [old]
    assert names(tmp_path) == {new.name}


def test_no_bound(tmp_path: Path) -> None:
    fetched(tmp_path, b"a", days=100)
    assert keep_within(tmp_path, 0, ()) == []


def test_what_is_in_use_stays_and_counts(tmp_path: Path) -> None:
    used, other = fetched(tmp_path, b"a", days=9), fetched(tmp_path, b"b", days=1)
    assert [file.path for file in keep_within(tmp_path, 1, {used})] == [other]
    assert names(tmp_path) == {used.name}


def test_what_others_used_within_the_hour_stays(tmp_path: Path) -> None:
    """It may be about to be read by a process that starts, or half written."""
    hour = GRACE / DAY
    fetched(tmp_path, b"a", days=hour * 0.9)
    gone = fetched(tmp_path, b"b", days=hour * 1.1)
    half = tmp_path / "fetched" / ".new-x1y2"
    half.write_bytes(b"half")
    assert [file.path for file in keep_within(tmp_path, 1, ())] == [gone]
    age(half, 1)
    assert [file.path for file in keep_within(tmp_path, 1, ())] == [half]


def test_what_is_none_of_ours_stays(tmp_path: Path) -> None:
    notes, lock = tmp_path / "notes.txt", tmp_path / "fetched" / f"{'0' * 64}.lock"
    fetched(tmp_path, b"a", days=1)
    for path in (notes, lock):
        path.write_bytes(b"x" * 5000)
        age(path, 400)
    assert len(keep_within(tmp_path, 1, ())) == 1
    assert notes.exists() and lock.exists()


def test_what_is_used_while_one_looks_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetched(tmp_path, b"a", days=9)
    listed = list(kept_in(tmp_path))
    monkeypatch.setattr("asgi_wasm.fetching.kept.kept_in", lambda _: listed)
    os.utime(path)
    assert keep_within(tmp_path, 1, ()) == []
    assert path.exists()


def test_what_somebody_else_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as gone, so no more than that goes."""
    first, second = fetched(tmp_path, b"a", days=9), fetched(tmp_path, b"b", days=8)
    listed = list(kept_in(tmp_path))
    monkeypatch.setattr("asgi_wasm.fetching.kept.kept_in", lambda _: listed)
    first.unlink()
    keep_within(tmp_path, 1000, ())
    assert second.exists()


def test_what_cannot_be_read_or_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = fetched(tmp_path, b"a", days=9)
    monkeypatch.setattr(Path, "unlink", refuse)
    assert keep_within(tmp_path, 1, ()) == []
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert keep_within(tmp_path, 1, ()) == []
    assert path.exists()
    assert keep_within(tmp_path / "none", 1, ()) == []


def settings(tmp_path: Path, limit: int) -> Path:
    file = tmp_path / "asgi-wasm.yaml"
    plugin = {"name": "fault", "file": str(RUST), "conf": "{}"}
    file.write_text(json.dumps({"cache_dir": str(tmp_path / "cache"), "cache_limit": limit, "plugins": [plugin]}))
    return file


async def test_a_start_removes_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """But nothing of its own, however small the limit, and however old."""
    file, cache = settings(tmp_path, 1), tmp_path / "cache"
    async with WasmMiddleware(None, settings=file):  # type: ignore[arg-type]
        mine = names(cache)
    assert mine
    old = fetched(cache, b"old", days=2)
    for entry in kept_in(cache):
        age(entry.path, 2)
    # As where the entries are root's: what is loaded cannot be marked.
    with pytest.MonkeyPatch.context() as patched, caplog.at_level(logging.INFO, "asgi_wasm"):
        patched.setattr("asgi_wasm.engines.cache.mark_used", lambda path: None)
        async with WasmMiddleware(None, settings=file):  # type: ignore[arg-type]
            pass
    assert names(cache) == mine and not old.exists()
    assert "removed the 1 files" in caplog.text and "cache_limit" in caplog.text


def test_compile_removes_too(tmp_path: Path) -> None:
    from asgi_wasm.settings import load

    old = fetched(tmp_path / "cache", b"old", days=2)
    (report,) = compile_all(load(settings(tmp_path, 1)))
    assert report.kept and not old.exists()


@pytest.mark.skipif(os.name == "nt", reason="there nobody can remove what is mapped")
def test_a_process_keeps_what_it_has_mapped(tmp_path: Path) -> None:
    """Its code runs on after the entry is gone."""
    script = """
import sys
from pathlib import Path
from asgi_wasm.engines.cache import ModuleCache
from asgi_wasm.engines.wasmtime import WasmtimeEngine
engine = WasmtimeEngine()
code = Path(sys.argv[2]).read_bytes()
module, cached = ModuleCache(Path(sys.argv[1])).load(engine, code)
print("loaded", cached, flush=True)
sys.stdin.readline()
print(len(module.exports), module.serialize() != b"", flush=True)
"""
    cache = tmp_path / "cache"
    ModuleCache(cache).load(WasmtimeEngine(), RUST.read_bytes())
    child = subprocess.Popen(
        [sys.executable, "-c", script, cache, RUST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None and child.stdout is not None
    assert child.stdout.readline() == "loaded True\n"
    for entry in kept_in(cache):
        age(entry.path, 2)
    assert len(keep_within(cache, 1, ())) == 1
    out, _ = child.communicate("\n", timeout=60)
    assert child.returncode == 0 and out.endswith("True\n")


def test_the_command_shows_the_limit(tmp_path: Path) -> None:
    file = settings(tmp_path, 5_000_000)
    assert "5.0 MB (cache_limit)" in run("cache", file, cwd=tmp_path).out
    assert json.loads(run("cache", file, "--json", cwd=tmp_path).out)["limit"] == 5_000_000
    assert "none (cache_limit: 0)" in run("cache", settings(tmp_path, 0), cwd=tmp_path).out
