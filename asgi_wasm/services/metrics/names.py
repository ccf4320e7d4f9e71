"""From a plugin's metric names, which are free text, to the names and labels of Prometheus.

Followed: Envoy `source/common/stats/tag_extractor_impl.cc` (which group does what),
`source/common/stats/tag_producer_impl.cc` (every rule sees the whole name) and
`source/server/admin/prometheus_stats.cc` (`sanitizeName`, the prefix of custom stats).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from asgi_wasm.specs import TagRule

# Envoy's stats of plugins begin with it; rules see it, and Prometheus does not.
_PREFIX = "wasmcustom."
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_]")
# prometheus_client adds it to the names of counters, as OpenMetrics wants.
_COUNTER_SUFFIX = "_total"


class Series(NamedTuple):
    """Where a metric is exported: a name that may still be illegal, and its labels."""

    name: str
    labels: tuple[tuple[str, str], ...]


def series_of(plugin: str, name: str, rules: Sequence[TagRule]) -> Series:
    """The series of a plugin's metric; never raises, whatever the name is.

    The label ``plugin`` comes first. Of two rules for one label the first that matches wins.
    """
    full = _PREFIX + name
    labels = {"plugin": plugin}
    removed: set[int] = set()
    for rule in rules:
        if rule.tag in labels:
            continue
        if rule.regex is None:
            labels[rule.tag] = rule.value or ""
        elif (match := rule.regex.search(full)) is not None and match[1] is not None:
            labels[rule.tag] = (match[2] or "") if rule.regex.groups > 1 else match[1]
            removed.update(range(*match.span(1)))
    kept = "".join(char for index, char in enumerate(full) if index not in removed)
    return Series(kept.removeprefix(_PREFIX), tuple(labels.items()))


def legal_name(name: str, *, counter: bool) -> str:
    """The name with an underscore for all but letters, digits and underscores, as in Envoy, and for a missing start.

    A counter's is without the ``_total`` that it will be shown with.
    """
    text = _ILLEGAL.sub("_", name)
    while counter and text.endswith(_COUNTER_SUFFIX):
        text = text.removesuffix(_COUNTER_SUFFIX)
    return text if text and not text[0].isdigit() else f"_{text}"
