"""What benchmarks of a suite cost when somebody was content with it: a file beside the suite, to be committed.

It holds by the plugin's file name, and by the test's name, how many hostcalls, microseconds and bytes of memory it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asgi_wasm.errors import SettingsError
from asgi_wasm.testing.suites.suite import TestResult

_ADVICE = "run it with --update if that is as it should be"


def baselines_file(suite: Path) -> Path:
    """That of a suite: ``tests.baselines.json`` for ``tests.textpb``."""
    return suite.with_suffix(".baselines.json")


def compare(suite: Path, results: Iterable[TestResult], tolerance: float) -> None:
    """Let those fail that cost more than they did. ``tolerance`` is how many times the time; 0 leaves time out.

    Raises `SettingsError` for a file that cannot be read.
    """
    known = _read(baselines_file(suite))
    for result in results:
        was = known.get(result.plugin, {}).get(result.name)
        if was is None or result.benchmark is None:
            continue
        now = asdict(result.benchmark)
        for name, unit in (("hostcalls", "hostcalls"), ("memory", "bytes of memory")):
            if now[name] > was[name]:
                result.failures.append(f"[benchmark] {now[name]} {unit}, {was[name]} before: {_ADVICE}")
        if tolerance and now["microseconds"] > was["microseconds"] * tolerance:
            times = now["microseconds"] / was["microseconds"]
            result.failures.append(
                f"[benchmark] {now['microseconds']:.1f} µs, {was['microseconds']:.1f} before: {times:.1f} times, where"
                f" --tolerance allows {tolerance:g}: {_ADVICE}"
            )


def update(suite: Path, results: Iterable[TestResult]) -> Path | None:
    """Write what they cost now; other plugins' stay. None where there is no benchmark. Raises `SettingsError`."""
    file = baselines_file(suite)
    known = _read(file)
    made = [(result, result.benchmark) for result in results if result.benchmark is not None]
    if not made:
        return None
    for result, benchmark in made:
        known.setdefault(result.plugin, {})[result.name] = _rounded(asdict(benchmark))
    try:
        file.write_text(json.dumps(known, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{file}: cannot be written: {error.strerror or error}") from None
    return file


def _rounded(costs: dict[str, Any]) -> dict[str, Any]:
    return {**costs, "microseconds": round(costs["microseconds"], 1)}


def _read(file: Path) -> dict[str, dict[str, dict[str, Any]]]:
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        for tests in found.values():
            for costs in tests.values():
                costs["hostcalls"] + costs["memory"] + costs["microseconds"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise SettingsError(f"{file}: is no file of baselines: remove it, or write it anew by --update") from None
    return found  # type: ignore[no-any-return]
