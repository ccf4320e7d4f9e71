"""Reads a scrape as Prometheus would."""

from __future__ import annotations

from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from asgi_wasm import metrics_app
from asgi_wasm.asgi.types import ASGIApp
from tests.driving import request

OPENMETRICS = [(b"accept", b"application/openmetrics-text; version=1.0.0")]


class Scrape:
    """The samples of a scrape; reading it fails when one is there twice."""

    def __init__(self, text: str, *, openmetrics: bool = False) -> None:
        self.text = text
        self.types: dict[str, str] = {}
        self._values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        parse = parse_openmetrics if openmetrics else parse_text
        for family in parse(text):
            assert family.name not in self.types, f"{family.name} is there twice"
            self.types[family.name] = family.type
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self._values, f"{key} is there twice"
                self._values[key] = sample.value

    def get(self, name: str, **labels: str) -> float | None:
        """The value of exactly this series."""
        return self._values.get((name, frozenset(labels.items())))

    def all(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """Every series of this name."""
        return {labels: value for (found, labels), value in self._values.items() if found == name}

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self._values}


async def scrape(app: ASGIApp = metrics_app, *, openmetrics: bool = False, **asked: Any) -> Scrape:
    """One scrape, in process."""
    response = await request(app, path="/metrics/", headers=OPENMETRICS if openmetrics else (), **asked)
    assert response.status == 200
    return Scrape(response.body.decode(), openmetrics=openmetrics)
