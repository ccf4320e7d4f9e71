"""All scripts, by chapter."""

from __future__ import annotations

from collections.abc import Sequence

from tests.conformance.probe.script import Script
from tests.conformance.probe.scripts import (
    bodies,
    callouts,
    contexts,
    expressions,
    headers,
    late_headers,
    odd_headers,
    phases,
    properties,
    replies,
    state,
    streams,
    system,
    versions,
)

CHAPTERS: dict[str, Sequence[Script]] = {
    "phases": phases.SCRIPTS,
    "headers": (*headers.SCRIPTS, *odd_headers.SCRIPTS, *late_headers.SCRIPTS),
    "bodies": bodies.SCRIPTS,
    "properties": properties.SCRIPTS,
    "streams": (*replies.SCRIPTS, *streams.SCRIPTS),
    "contexts": contexts.SCRIPTS,
    "expressions": expressions.SCRIPTS,
    "state": state.SCRIPTS,
    "callouts": callouts.SCRIPTS,
    "system": system.SCRIPTS,
    "versions": versions.SCRIPTS,
}
SCRIPTS = tuple(script for chapter in CHAPTERS.values() for script in chapter)
