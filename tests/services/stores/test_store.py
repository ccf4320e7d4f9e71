"""Choosing a store."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from asgi_wasm.errors import MissingExtraError
from asgi_wasm.services.stores.store import open_store
from asgi_wasm.settings.store_url import parse_store_url


@pytest.mark.parametrize(("url", "extra"), [("lmdb:///path", "lmdb"), ("rediss://:secret@host", "redis")])
def test_missing_extra(url: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'asgi-wasm\[{extra}\]'") as caught:
        open_store(parse_store_url(url))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("problem", ["ImportError('no symbol')", "Exception('it has no compiled part')"])
def test_extra_that_cannot_be_loaded(problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where pip finds no wheel, and takes one that compiles itself when it is imported."""
    (tmp_path / "lmdb.py").write_text(f"raise {problem}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lmdb", raising=False)
    with pytest.raises(MissingExtraError, match=r"package lmdb cannot be loaded on Python 3\.\d+\.\S+ \("):
        open_store(parse_store_url("lmdb:///path"))
