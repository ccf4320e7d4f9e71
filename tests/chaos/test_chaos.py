"""The short and certain part of `make chaos`; single failures are in `tests/services`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos import __main__ as chaos
from tests.chaos import increments, report, state
from tests.extras import LMDB_MISSING
from tests.papers.blocks import STORES, WRITE, check_block


@pytest.mark.skipif(bool(LMDB_MISSING), reason=LMDB_MISSING)
def test_no_count_is_lost_with_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_WORKERS", 2)
    monkeypatch.setattr(state, "_SETTLE_SECONDS", 5.0)
    row = asyncio.run(state._run("kill", tmp_path, f"lmdb://{tmp_path}/state", 0.5, state._killing))
    assert row.happened.startswith("1 kill")
    assert row.acknowledged is not None and min(row.acknowledged) > 0
    assert row.lost is not None and row.lost[0] == 0
    assert row.doubled == (0, 0) and not row.wrong
    assert "| kill | 1 kill" in report.markdown([row], "")


def test_what_cannot_be_run_is_told_beside_the_rest() -> None:
    async def scenarios() -> AsyncIterator[report.Row]:
        yield report.Row("one", "x")
        raise RuntimeError("no room")

    rows: list[report.Row] = []
    asyncio.run(chaos._run(scenarios(), rows))
    assert [row.wrong for row in rows] == ["", "RuntimeError: no room"]
    assert "WRONG, " in report.markdown(rows, report.conditions(1))


def test_its_table_has_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WRITE, raising=False)
    with pytest.raises(AssertionError, match="is not what was found"):
        check_block(STORES, "chaos", "another one")


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
