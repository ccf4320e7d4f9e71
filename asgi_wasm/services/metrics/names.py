"""From a plugin's metric names, which are free text, to the names and labels of Prometheus.

Followed: Envoy `source/common/stats/tag_extractor_impl.cc` (which group does what),
`source/common/stats/tag_producer_impl.cc` (every rule sees the whole name) and
`source/server/admin/prometheus_stats.cc` (`sanitizeName`, the prefix of custom stats).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from asgi_wasm.logs import get_logger
from asgi_wasm.specs import TagRule

# Names of metrics that one plugin may have exported; each is up to 22 lines of a scrape. A plugin that puts what
# clients send into names would otherwise fill the memory of whoever collects them. Istio's proxies have some hundred.
MAX_NAMES = 1000
# Characters of one name. Istio's longest, with every label in it, have about 700; the rules' regular expressions run
# over it, and Python's may take time that grows with its square.
MAX_NAME_LENGTH = 1024

# Envoy's stats of plugins begin with it; rules see it, and Prometheus does not.
_PREFIX = "wasmcustom."
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_]")
# prometheus_client adds it to the names of counters, as OpenMetrics wants.
_COUNTER_SUFFIX = "_total"

logger = get_logger("asgi_wasm.host")


class Series(NamedTuple):
    """Where a metric is exported: a name that may still be illegal, and its labels."""

    name: str
    labels: tuple[tuple[str, str], ...]


def series_of(plugin: str, name: str, rules: Sequence[TagRule]) -> Series:
    """The series of a plugin's metric; never raises, whatever the name is.

    The label ``plugin`` comes first; "" is nobody, whose metrics have none. Of two rules for one label the
    first that matches wins.
    """
    full = _PREFIX + name
    labels = {"plugin": plugin} if plugin else {}
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


class Admission:
    """Which of the plugins' metrics are exported: so many names of each plugin, and no long ones.

    To be kept for as long as what they are exported to: a VM or a worker in another's place may define others.
    """

    def __init__(self) -> None:
        self._names: defaultdict[str, set[str]] = defaultdict(set)
        self._warned: set[str] = set()

    def admits(self, plugin: str, name: str) -> bool:
        """Count the name in, if that may be. Nothing is to be kept of one that is not admitted."""
        names = self._names[plugin]
        if name in names:
            return True
        if len(name) > MAX_NAME_LENGTH:
            self.warn(plugin, f"metrics with names over {MAX_NAME_LENGTH} characters are not exported")
            return False
        if len(names) >= MAX_NAMES:
            self.warn(plugin, f"it has {MAX_NAMES} metrics: further ones are not exported")
            return False
        names.add(name)
        return True

    def warn(self, plugin: str, problem: str) -> None:
        """Once for each plugin: what is wrong with one name is often wrong with all of them."""
        if plugin not in self._warned:
            self._warned.add(plugin)
            logger.warning("plugin %r: %s", plugin, problem, extra={"plugin": plugin})
