"""Tables of the probe's run, in `asgi_wasm/host/ENVOY.md`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from asgi_wasm.host.abi import HOSTCALLS, Signature
from tests.conformance.probe.compare import Difference
from tests.papers.blocks import table

_CALL = re.compile(r"^[-+]?(?:\d+: )?(\w+): (?:proxy_)?(\w+)")
_FEW = 3


def call_of(line: str) -> tuple[str, str] | None:
    """Phase and hostcall (without `proxy_`) of a line, if it tells of one."""
    match = _CALL.match(line)
    return (match[1], match[2]) if match else None


def short_name(row: Signature) -> str:
    """Without the prefix that nearly all have."""
    return row.name.removeprefix("proxy_")


def phases_of(runs: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
    """In which phases each hostcall was called."""
    phases: dict[str, set[str]] = defaultdict(set)
    for lines in runs.values():
        for line in lines:
            if (call := call_of(line)) is not None:
                phases[call[1]].add(call[0])
    return phases


def _notes(differing: Mapping[str, Sequence[str]], listed: Sequence[Difference]) -> dict[str, set[int]]:
    """The numbers of the differences that each hostcall has part in."""
    notes: dict[str, set[int]] = defaultdict(set)
    for number, difference in enumerate(listed, 1):
        covered = [line for script in differing for line in differing[script] if difference.covers(script, line)]
        names = {call[1] for line in covered if (call := call_of(line)) is not None}
        for name in names if difference.hostcalls is None else difference.hostcalls:
            notes[name].add(number)
    return notes


def hostcalls(
    runs: Mapping[str, Sequence[str]], differing: Mapping[str, Sequence[str]], listed: Sequence[Difference]
) -> str:
    """One row a hostcall: where it was tried, and whether both hosts answered the same."""
    phases, notes = phases_of(runs), _notes(differing, listed)
    rows = []
    for row in HOSTCALLS:
        name = short_name(row)
        where = sorted(phases[name])
        told = ", ".join(where) if len(where) <= _FEW else f"{len(where)} phases"
        versions = f"{row.since}" if row.since == row.until else f"{row.since} to {row.until}"
        numbers = ", ".join(str(number) for number in sorted(notes[name]))
        rows.append([f"`{row.name}`", versions, told, f"but for {numbers}" if numbers else "yes"])
    return table(["hostcall", "ABI", "tried in", "same answers"], rows)


def differences(listed: Sequence[Difference]) -> str:
    """One row a difference, numbered."""
    return table(["", "difference"], [[str(number), difference.reason] for number, difference in enumerate(listed, 1)])
