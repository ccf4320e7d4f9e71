"""A process without metrics before each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asgi_wasm.services.metric_store import Store, process_store


@pytest.fixture(autouse=True)
def store() -> Iterator[Store]:
    process_store.cache_clear()
    yield process_store()
    process_store.cache_clear()
