"""What the status page shows beyond the status: traces, how long callbacks took."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asgi_wasm.services.traces.requests import TracedRequest

# Microseconds, and how they are written; the last bar is all above.
_BOUNDS = (10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)
_LABELS = ("10µs", "30µs", ".1ms", ".3ms", "1ms", "3ms", "10ms", "30ms", ".1s", "more")


def summary(trace: TracedRequest) -> dict[str, Any]:
    """A request in a list: without its calls."""
    whole = {key: value for key, value in trace.plain().items() if key not in ("calls", "callouts")}
    ends = [call.began + (call.took or 0) for call in trace.calls]
    return {**whole, "took": max(ends, default=0.0), "calls": len(trace.calls) + trace.left_out}


def in_full(trace: TracedRequest) -> dict[str, Any]:
    """A request with all its calls; ``app`` is when the app had it, between the callbacks of the two directions."""
    return {**trace.plain(), "app": _app(trace)}


def _app(trace: TracedRequest) -> dict[str, float] | None:
    if trace.answered_by != "app":
        return None
    answered = [call.began for call in trace.calls if call.is_callback and call.name.startswith("on_response_")]
    if not answered:
        return None
    ended = min(answered)
    began = max((call.began + (call.took or 0) for call in trace.calls if call.began < ended), default=ended)
    # The request's body may still be on its way while the answer comes.
    return {"began": began, "took": ended - began} if ended > began else None


def times(traces: Iterable[TracedRequest]) -> list[dict[str, Any]]:
    """A histogram for each plugin, of all its callbacks on requests (``callback`` ""), and one for each callback."""
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for trace in traces:
        for call in trace.calls:
            if call.is_callback and call.took is not None and call.name.startswith("on_"):
                found[call.plugin, call.name].append(call.took)
                found[call.plugin, ""].append(call.took)
    return [
        {
            "plugin": plugin,
            "callback": callback,
            "labels": _LABELS,
            "counts": _counts(took),
            "median": statistics.median(took),
        }
        for (plugin, callback), took in sorted(found.items())
    ]


def _counts(took: Sequence[float]) -> list[int]:
    counts = [0] * len(_LABELS)
    for each in took:
        counts[bisect_right(_BOUNDS, each)] += 1
    return counts
