"""A process without metrics before each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asgi_wasm.services.metrics.registry import MetricStore, process_store


@pytest.fixture(autouse=True)
def store() -> Iterator[MetricStore]:
    process_store.cache_clear()
    yield process_store()
    process_store.cache_clear()
