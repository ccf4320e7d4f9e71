"""What is compared of a case: its fields as they are on one host, without what is chance or another host's habit."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from tests.conformance.cases import APP_FIELDS, Case, Outcome
from tests.conformance.client import Response
from tests.conformance.hops import HOP_HEADERS

# `lifecycle` logs context ids, which go on from case to case: `on_log(7)` becomes `on_log(#1)`.
_CONTEXT_ID = re.compile(r"^(on_\w+\()(\d+)")
# Where a body is cut into pieces is chance, so a body's callbacks are told as one.
_PIECE = re.compile(r"^(on_\w+_body\(#\d+), (\d+), (\d)\)$")
_TICK = re.compile(r"^(on_tick\(|set_effective_context|continue_)")
_UNSIZED_PIECE = re.compile(r"^local_reply: \w+_body$")
Fields = dict[str, Any]
# Level and text.
LogLine = tuple[str, str]


@dataclass(frozen=True)
class Compared:
    """A case as it went on both hosts, field by field."""

    envoy: Fields
    asgi_wasm: Fields

    def differing(self) -> list[str]:
        """The fields that are not alike."""
        return [name for name in self.envoy if self.envoy[name] != self.asgi_wasm[name]]


def fields_of(case: Case, seen: list[dict[str, Any]], log: Sequence[LogLine], outcome: Outcome) -> Fields:
    """Of what the app has seen, the host has logged and the client got."""
    log = _relative(log)
    if not case.pieces:
        log = _joined(log)
    if case.late_ticks:
        log = [line for line in log if not _TICK.match(line[1])]
    for record in seen:
        # Stable: `host` first, as `:authority` is, wherever the client put it.
        record["headers"] = sorted(_kept(record["headers"]), key=lambda header: header[0] != "host")
    responses = outcome.responses
    if not case.ordered:
        log.sort()
        seen.sort(key=str)
        responses = sorted(responses, key=str)
    fields: Fields = {f"client.{name}": [told(response) for response in responses] for name, told in _RESPONSE.items()}
    fields["client.notes"] = outcome.notes
    fields["log"] = log
    for name in APP_FIELDS:
        fields[f"app.{name}"] = [record[name] for record in seen]
    return {name: value for name, value in fields.items() if name not in case.unsure}


_RESPONSE: dict[str, Callable[[Response], Any]] = {
    "status": lambda response: response.status,
    "headers": lambda response: _kept(response.headers),
    "body": lambda response: _short(response.body),
    "framing": lambda response: response.framing,
    "interim": lambda response: response.interim,
    "cut": lambda response: response.cut,
}


def _kept(headers: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in HOP_HEADERS]


def _short(body: bytes) -> bytes | tuple[int, int]:
    """A body to be shown in a failure: whole, or what tells it from another one."""
    return body if len(body) <= 2000 else (len(body), hash(body))


def _relative(lines: Sequence[LogLine]) -> list[LogLine]:
    numbers: defaultdict[str, int] = defaultdict(count(1).__next__)

    def renamed(match: re.Match[str]) -> str:
        return f"{match[1]}#{numbers[match[2]]}"

    return [(level, _CONTEXT_ID.sub(renamed, text)) for level, text in lines]


def _joined(lines: Sequence[LogLine]) -> list[LogLine]:
    joined: list[LogLine] = []
    # Where in `joined` the callbacks of the bodies stand that have not ended, since the last line of another kind.
    open_at: dict[str, int] = {}
    for level, text in lines:
        piece = _PIECE.match(text)
        key = piece[1] if piece else text
        if piece is None and not _UNSIZED_PIECE.match(text):
            open_at.clear()
        elif key not in open_at:
            open_at[key] = len(joined)
        else:
            at = open_at[key]
            before = _PIECE.match(joined[at][1])
            if piece and before:
                joined[at] = (level, f"{key}, {int(before[2]) + int(piece[2])}, {piece[3]})")
            continue
        joined.append((level, text))
    return joined


def differences(compared: Compared) -> str:
    """The fields that are not alike, to be read by a person."""
    lines = []
    for name in compared.differing():
        lines += [name, f"  Envoy:     {compared.envoy[name]!r}", f"  asgi-wasm: {compared.asgi_wasm[name]!r}"]
    return "\n".join(lines)
