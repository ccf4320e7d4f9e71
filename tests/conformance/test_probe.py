"""The probe plugin's scripts, in both hosts: the same answers line by line, but for a written list."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from asgi_wasm.host.signatures import HOSTCALLS
from tests.conformance.probe import tables
from tests.conformance.probe.compare import Difference, differing, normal, unlisted
from tests.conformance.probe.differences import DIFFERENCES
from tests.conformance.probe.run import Lines, run
from tests.conformance.probe.script import Script
from tests.conformance.probe.scripts import CHAPTERS, SCRIPTS
from tests.papers.blocks import ENVOY, check_block

pytestmark = pytest.mark.timeout(600)

Runs = tuple[Lines, Lines]


@pytest.fixture(scope="module")
def runs() -> Runs:
    theirs, ours = run(SCRIPTS)
    return (
        {script.name: normal(theirs[script.name]) for script in SCRIPTS},
        {script.name: normal(ours[script.name]) for script in SCRIPTS},
    )


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(script, id=f"{chapter}/{script.name}")
        for chapter, scripts in CHAPTERS.items()
        for script in scripts
    ],
)
def test_script(runs: Runs, script: Script) -> None:
    theirs, ours = (lines[script.name] for lines in runs)
    assert theirs, "Envoy told nothing"
    assert ours, "asgi-wasm told nothing"
    assert not [line for line in (*theirs, *ours) if "there is no such command" in line]
    assert unlisted(script.name, differing(theirs, ours), DIFFERENCES) == []


def _all_differing(runs: Runs) -> dict[str, list[str]]:
    theirs, ours = runs
    return {script.name: [*differing(theirs[script.name], ours[script.name])] for script in SCRIPTS}


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.reason[:40])
def test_listed_difference_is_still_there(runs: Runs, difference: Difference) -> None:
    found = _all_differing(runs)
    covered = {name for name, lines in found.items() if any(difference.covers(name, line) for line in lines)}
    unused = [pattern for pattern in difference.scripts if not _names(pattern, covered)]
    assert unused == [], "remove it from the list"


def _names(pattern: str, scripts: set[str]) -> bool:
    return any(Difference("", (pattern,)).is_about(script) for script in scripts)


def test_every_hostcall_is_probed(runs: Runs) -> None:
    phases = tables.phases_of(runs[1])
    assert [row.name for row in HOSTCALLS if not phases[tables.short_name(row)]] == []


def test_names_are_unique() -> None:
    names: Sequence[str] = [script.name for script in SCRIPTS]
    assert sorted(set(names)) == sorted(names)


def test_tables(runs: Runs) -> None:
    check_block(ENVOY, "hostcalls", tables.hostcalls(runs[1], _all_differing(runs), DIFFERENCES))
    check_block(ENVOY, "callbacks", tables.callbacks(_all_differing(runs), DIFFERENCES))
    check_block(ENVOY, "properties", tables.properties(*runs))
    check_block(ENVOY, "probe differences", tables.differences(DIFFERENCES))
