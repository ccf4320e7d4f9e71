"""Where what is fetched is kept, and what else may be there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asgi_wasm.fetching.cache import FetchCache
from tests.fetching.site import GOOD, digest_of


def test_the_default_is_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    FetchCache().put(digest_of(GOOD), GOOD)
    assert (tmp_path / "asgi-wasm" / "fetched" / digest_of(GOOD)).read_bytes() == GOOD


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files")
def test_what_is_no_file(tmp_path: Path) -> None:
    """It is not waited for, and is replaced."""
    cache = FetchCache(tmp_path)
    digest = digest_of(GOOD)
    (tmp_path / "fetched").mkdir()
    os.mkfifo(tmp_path / "fetched" / digest)
    assert cache.get(digest, 100) is None
    cache.put(digest, GOOD)
    assert cache.get(digest, 100) == GOOD


def test_a_limit(tmp_path: Path) -> None:
    cache = FetchCache(tmp_path)
    cache.put(digest_of(GOOD), GOOD)
    assert cache.get(digest_of(GOOD), len(GOOD)) == GOOD
    assert cache.get(digest_of(GOOD), len(GOOD) - 1) is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_an_image_is_built_by_one_user_and_run_by_another(tmp_path: Path) -> None:
    """Folder and file are as readable as ``cache_dir``, which is the user's own where nobody else made it."""
    for name, folder_mode, file_mode in (("image", 0o755, 0o644), ("own", 0o700, 0o600), ("new", 0o700, 0o600)):
        if name != "new":
            (tmp_path / name).mkdir(mode=folder_mode)
        FetchCache(tmp_path / name).put(digest_of(GOOD), GOOD)
        fetched = tmp_path / name / "fetched"
        assert (tmp_path / name).stat().st_mode & 0o777 == fetched.stat().st_mode & 0o777 == folder_mode
        assert (fetched / digest_of(GOOD)).stat().st_mode & 0o777 == file_mode


def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    FetchCache(tmp_path).put(digest_of(GOOD), GOOD)
    assert [*(tmp_path / "fetched").iterdir()] == []
    assert "cannot be kept" in caplog.text and "No space left" in caplog.text


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", none)
    cache = FetchCache()
    cache.put(digest_of(GOOD), GOOD)
    with cache.lock("x", 1.0):
        assert cache.get(digest_of(GOOD), 100) is None
    assert caplog.text.count("is not kept (set cache_dir to a directory)") == 1
