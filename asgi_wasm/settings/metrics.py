"""What the settings may say of metrics."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from asgi_wasm.settings import names
from asgi_wasm.settings.entry import Entry, Flag
from asgi_wasm.settings.files import shown
from asgi_wasm.specs import DEFAULT_BUCKETS

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Taken: by us, by prometheus_client's gauges of several processes, and by Prometheus's histograms and summaries.
_TAKEN_LABELS = ("plugin", "pid", "le", "quantile")


class TagRule(Entry):
    """A label that is got from metrics' names: ``regex`` (Envoy's groups: what is removed, and in it the value)."""

    tag: str
    """The label's name."""
    regex: str | None = None
    """Its first group leaves the metric's name; its second group, or else the first, is the label's value."""
    value: str | None = None
    """A fixed value, for every metric. In place of `regex`."""

    @model_validator(mode="before")
    @classmethod
    def _other_spellings(cls, value: Any) -> Any:
        return names.canonical(value, names.TAG_RULE) if isinstance(value, Mapping) else value

    @field_validator("tag")
    @classmethod
    def _check_tag(cls, value: str) -> str:
        # Envoy too writes its dotted tag names with underscores for Prometheus.
        label = value.replace(".", "_").replace("-", "_")
        if not _LABEL.fullmatch(label) or label.startswith("__"):
            raise ValueError(f"{shown(value)!r} is no label: use letters, digits and '_', and do not begin with '__'")
        if label in _TAKEN_LABELS:
            raise ValueError(f"the label {shown(value)!r} is taken: choose another")
        return label

    @field_validator("regex")
    @classmethod
    def _check_regex(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"{shown(value)!r} is no regular expression of Python: {shown(error)}") from None
        if not groups:
            raise ValueError(f"{shown(value)!r} has no group: put what is to leave the name in (…)")
        return value

    @model_validator(mode="after")
    def _one_of_two(self) -> TagRule:
        if (self.regex is None) == (self.value is None):
            raise ValueError("needs a regex, or a fixed value, and not both")
        return self


class Metrics(Entry):
    """Whether metrics are exported, labels got from names, and the buckets of the plugins' histograms."""

    enabled: bool = True
    """Whether metrics are exported."""
    exporter: Literal["prometheus", "opentelemetry"] = "prometheus"
    """Where they go: `metrics_app`, which Prometheus scrapes (extra `metrics`), or the meter provider of the app's
    OpenTelemetry SDK (extra `opentelemetry`)."""
    per_plugin: Flag = True
    """Each plugin's metrics are its own, with the label `plugin`. `false`: equal names are one metric, as in Envoy, and
    there is no such label."""
    rules: list[TagRule] = Field(default_factory=list)
    """Labels that are made from metrics' names."""
    buckets: list[float] = Field(default_factory=lambda: list(DEFAULT_BUCKETS))
    """Upper bounds of the plugins' histograms, each greater than the one before it. Without it, Envoy's."""

    @model_validator(mode="before")
    @classmethod
    def _only_enabled(cls, value: Any) -> Any:
        return names.canonical(value, names.METRICS) if isinstance(value, Mapping) else {"enabled": value}

    @field_validator("buckets")
    @classmethod
    def _check_buckets(cls, value: list[float]) -> list[float]:
        if not value or any(not math.isfinite(bound) for bound in value) or sorted(set(value)) != value:
            raise ValueError("must be finite numbers, each greater than the one before it")
        return value
