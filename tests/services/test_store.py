"""Choosing a store."""

from __future__ import annotations

import sys

import pytest

from asgi_wasm.errors import MissingExtraError
from asgi_wasm.services.store import open_store
from asgi_wasm.settings.store_url import parse_store_url


@pytest.mark.parametrize(("url", "extra"), [("lmdb:///path", "lmdb"), ("rediss://:secret@host", "redis")])
def test_missing_extra(url: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'asgi-wasm\[{extra}\]'") as caught:
        open_store(parse_store_url(url))
    assert "secret" not in str(caught.value)
