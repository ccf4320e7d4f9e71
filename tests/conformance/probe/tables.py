"""Tables of the probe's run, in `asgi_wasm/host/ENVOY.md`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from asgi_wasm.host.signatures import CALLBACKS, HOSTCALLS, Signature
from tests.conformance.probe.compare import Difference
from tests.conformance.probe.scripts.attributes import ATTRIBUTES
from tests.papers.blocks import table

_CALL = re.compile(r"^[-+]?(?:\d+: )?(\w+): (?:proxy_)?(\w+)")
_PHASE = re.compile(r"^[-+]?(?:\d+: )?(\w+): ")
_FEW = 3
# The phases whose names are not those of the callbacks.
_PHASES = {
    "proxy_on_memory_allocate": ("malloc",),
    "malloc": (),
    "proxy_on_context_create": ("root_create", "stream_create"),
    "proxy_on_done": ("done", "root_done"),
    "proxy_on_delete": ("delete", "root_delete"),
    "proxy_on_request_body": ("request_body", "request_end"),
    "proxy_on_response_body": ("response_body", "response_end"),
}
_ELSEWHERE = {
    **{
        f"proxy_on_grpc_{name}": "yes, by `tests/plugins/test_grpc_probe.py`: see [gRPC](#grpc)"
        for name in ("receive_initial_metadata", "receive", "receive_trailing_metadata", "close")
    },
    "malloc": "yes, as `proxy_on_memory_allocate`",
    "proxy_on_foreign_function": "Envoy never calls it: [Python for plugins](README.md#python-for-plugins)",
    "proxy_validate_configuration": "not called: `on_configure` says the same when the plugin starts",
    **{
        f"proxy_on_{direction}_metadata": "not called: it is for METADATA frames of HTTP/2, which ASGI does not have"
        for direction in ("request", "response")
    },
    **{
        f"proxy_on_{name}": "not called: TCP streams are not hosted"
        for name in (
            "new_connection",
            "downstream_data",
            "upstream_data",
            "downstream_connection_close",
            "upstream_connection_close",
        )
    },
}
# Where attributes are read, with the heads of their columns.
_READ_IN = {
    "stream_create": "context created",
    "request_headers": "request headers",
    "request_end": "request body's end",
    "response_headers": "response headers",
    "response_end": "response body's end",
    "log": "`on_log`",
    "done": "`on_done`",
    "configure": "root context",
}


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
        numbers = ", ".join(str(number) for number in sorted(notes[name]))
        rows.append([f"`{row.name}`", _versions(row), told, f"but for {numbers}" if numbers else "yes"])
    return table(["hostcall", "ABI", "tried in", "same answers"], rows)


def callbacks(differing: Mapping[str, Sequence[str]], listed: Sequence[Difference]) -> str:
    """One row a callback: whether both hosts call it alike."""
    notes: dict[str, set[int]] = defaultdict(set)
    for number, difference in enumerate(listed, 1):
        if difference.hostcalls != ():
            continue  # told in the hostcalls' table
        for script, lines in differing.items():
            for line in lines:
                if difference.covers(script, line) and (phase := _PHASE.match(line)) is not None:
                    notes[phase[1]].add(number)
    rows = []
    for row in CALLBACKS:
        phases = _PHASES.get(row.name, (row.name.removeprefix("proxy_on_"),))
        numbers = sorted(set().union(*(notes[phase] for phase in phases)))
        same = f"but for {', '.join(map(str, numbers))}" if numbers else "yes"
        rows.append([f"`{row.name}`", _versions(row), str(len(row.params)), _ELSEWHERE.get(row.name, same)])
    return table(["callback", "ABI", "parameters", "as in Envoy"], rows)


def _versions(row: Signature) -> str:
    return f"{row.since}" if row.since == row.until else f"{row.since} to {row.until}"


def properties(theirs: Mapping[str, Sequence[str]], ours: Mapping[str, Sequence[str]]) -> str:
    """One row an attribute: where it has a value, in both hosts or in one."""
    found = [{phase: _values(runs, phase) for phase in _READ_IN} for runs in (theirs, ours)]
    rows = []
    for dotted in ATTRIBUTES:
        path = dotted.replace(".", "\\x00")
        cells = [_cell(*(run[phase].get(path) for run in found)) for phase in _READ_IN]
        rows.append([f"`{dotted}`", *cells])
    return table(["property", *_READ_IN.values()], rows)


def _values(runs: Mapping[str, Sequence[str]], phase: str) -> dict[str, str]:
    """What each path was answered in this phase."""
    read = re.compile(rf'^{phase}: get_property "([^"]*)"(?: \$2 \$3)? = (.*)')
    lines = runs[f"property-in-{phase}"]
    return {match[1]: match[2] for line in lines if (match := read.match(line)) is not None}


def _cell(envoy: str | None, here: str | None) -> str:
    """Answers that begin with 0 have a value."""
    there = [answer is not None and answer.startswith("0") for answer in (envoy, here)]
    if envoy == here or all(there):
        return "✓" if envoy == here and all(there) else "✓ other value" if all(there) else ""
    return "here" if there[1] else "Envoy" if there[0] else ""


def differences(listed: Sequence[Difference]) -> str:
    """One row a difference, numbered."""
    return table(["", "difference"], [[str(number), difference.reason] for number, difference in enumerate(listed, 1)])
