"""A process without metrics before each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asgi_wasm.services.metrics.registry import MetricRegistry, process_registry
from tests.guests import wrap_guests
from tests.services.metrics.counting import probe

__all__ = ["probe", "store", "wrap_guests"]


@pytest.fixture(autouse=True)
def store() -> Iterator[MetricRegistry]:
    process_registry.cache_clear()
    yield process_registry()
    process_registry.cache_clear()
