"""The short and certain part of `make chaos`; single failures are in `tests/services`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos import report, state
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
