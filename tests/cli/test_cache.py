"""``asgi-wasm cache``: what it counts, what it removes, and what it leaves alone."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from asgi_wasm.cli.caching import show_cache
from asgi_wasm.errors import SettingsError
from asgi_wasm.fetching.cache import FetchCache
from tests.cli.running import PLUGINS, run
from tests.fetching.site import digest_of

RUST = PLUGINS / "fault_injection/rust.wasm"
DAY = 86_400
CONTENT = b"a plugin"


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A settings file whose cache holds what a start leaves, and strangers' files beside that."""
    file, cache = tmp_path / "asgi-wasm.yaml", tmp_path / "cache"
    plugin = {"name": "fault", "file": str(RUST), "conf": "{}"}
    file.write_text(json.dumps({"cache_dir": str(cache), "plugins": [plugin]}))
    assert run("compile", file, cwd=tmp_path).status == 0
    fetched = FetchCache(cache)
    with fetched.lock("https://example/plugin.wasm", 10):
        fetched.put(digest_of(CONTENT), CONTENT)
    (cache / "notes.txt").write_text("mine")
    (cache / "fetched" / "notes.txt").write_text("mine")
    (cache / "fetched" / ("0" * 64)).symlink_to(file)
    return file


def shown(
    settings: Path, capsys: pytest.CaptureFixture[str], prune: int | None = None, clear: bool = False
) -> dict[str, dict[str, int]]:
    assert show_cache(settings, prune=prune, clear=clear, as_json=True) == 0
    told: dict[str, dict[str, int]] = json.loads(capsys.readouterr().out)
    return told


def age(settings: Path, days: int) -> None:
    """Let everything have been used so long ago."""
    then = time.time() - days * DAY
    for path in (settings.parent / "cache").rglob("*"):
        os.utime(path, (then, then), follow_symlinks=False)


def test_what_there_is(settings: Path, tmp_path: Path) -> None:
    done = run("cache", settings, cwd=tmp_path)
    assert done.status == 0
    assert str(tmp_path / "cache") in done.out
    assert "fetched   1 file, 0.0 MB" in done.out and "removed" not in done.out


def test_what_was_not_used_is_removed(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = shown(settings, capsys)
    assert before["compiled"]["files"] >= 1 and before["fetched"] == {"files": 1, "bytes": len(CONTENT)}
    assert before["removed"] is None
    age(settings, 31)
    assert shown(settings, capsys, prune=32)["removed"] == {"files": 0, "bytes": 0}
    after = shown(settings, capsys, prune=30)
    assert after["removed"]["files"] == before["compiled"]["files"] + 1
    assert after["compiled"] == after["fetched"] == {"files": 0, "bytes": 0}
    left = sorted(path.name for path in (settings.parent / "cache").rglob("*"))
    assert left == sorted(["0" * 64, "fetched", "notes.txt", "notes.txt"]), "and no lock"


def test_use_keeps(settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A start marks what it takes."""
    age(settings, 31)
    assert FetchCache(tmp_path / "cache").get(digest_of(CONTENT), 1000) == CONTENT
    assert run("check", settings, cwd=tmp_path).status == 0
    kept = shown(settings, capsys, prune=30)
    assert kept["fetched"]["files"] == 1 and kept["compiled"]["files"] >= 1


def test_all_of_it(settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a start fills it again."""
    count = shown(settings, capsys)["compiled"]["files"]
    assert shown(settings, capsys, clear=True)["compiled"]["files"] == 0
    assert run("check", settings, cwd=tmp_path).status == 0
    assert shown(settings, capsys)["compiled"]["files"] == count


def test_none_yet(tmp_path: Path) -> None:
    told = json.loads(run("cache", "--json", cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "home")).out)
    nothing = {"files": 0, "bytes": 0}
    assert told == {
        "directory": str(tmp_path / "home/asgi-wasm"),
        "limit": 1024**3,
        "compiled": nothing,
        "fetched": nothing,
        "removed": None,
    }


@pytest.mark.parametrize(
    ("prune", "clear", "told"), [(3, True, "exclude each other"), (-1, False, "write a number of days")]
)
def test_mistakes(settings: Path, prune: int, clear: bool, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        show_cache(settings, prune=prune, clear=clear, as_json=True)
