"""The short and certain part of `make chaos`; single failures are in `tests/services`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos import increments, report, state
from tests.extras import LMDB_MISSING


@pytest.mark.skipif(bool(LMDB_MISSING), reason=LMDB_MISSING)
def test_no_count_is_lost_with_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_WORKERS", 2)
    monkeypatch.setattr(state, "_SETTLE_SECONDS", 5.0)
    row = asyncio.run(state._run("kill", tmp_path, f"lmdb://{tmp_path}/state", 0.5, state._killing))
    assert row.happened.startswith("1 kill")
    assert row.acknowledged is not None and min(row.acknowledged) > 0
    assert row.lost is not None and row.lost[0] == 0
    assert row.doubled == (0, 0) and not row.wrong
    assert "| kill | 1 kill" in report.markdown([row])


@pytest.mark.skipif(bool(LMDB_MISSING), reason=LMDB_MISSING)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux tells the children of a process")
def test_no_increment_is_lost_with_one_of_four_workers(tmp_path: Path) -> None:
    outcome = asyncio.run(increments.count(tmp_path, f"lmdb://{tmp_path}/state", 300))
    assert len(outcome.numbers) >= 300
    assert (outcome.lost, outcome.doubled) == (0, 0)
    assert "0 lost, 0 doubled" in outcome.told("LMDB")


def test_a_lost_increment_is_noticed() -> None:
    outcome = increments.Outcome(numbers=[1, 2, 2, 4], final=3, unanswered=0)
    assert (outcome.lost, outcome.doubled) == (2, 0)
    assert increments.Outcome(numbers=[1], final=3, unanswered=1).doubled == 1
