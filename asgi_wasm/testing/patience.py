"""How long a test waits: while something happens, but for ever for nothing, and for no longer than it can."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asgi_wasm.testing.records import Call, Recorder

# Callbacks after which plugins are taken not to come to rest: more than one of each second of a day.
MOST_CALLBACKS = 100_000
# Where the plugin of anyio waits for the very test that runs: as long as that awaits something, nothing is done there.
_RUNNERS = ("TestRunner._call_in_runner_task",)


class NotSettledError(AssertionError):
    """Raised when plugins go on and on: a queue that its reader fills, ticks for which the clock has far to go."""


@dataclass
class Patience:
    """Of one who waits: at most so many ``seconds`` of real time.

    ``progress`` answers otherwise whenever something has happened, and may raise. ``is_stuck`` tells whether, where
    nothing happens, nothing ever will: a plugin has paused a stream, and the test does nothing but wait.
    """

    seconds: float
    progress: Callable[[], object]
    is_stuck: Callable[[], bool]


class Unrest:
    """The callbacks from now on, of which there may be `MOST_CALLBACKS`."""

    def __init__(self, recorder: Recorder, when: Callable[[], str]) -> None:
        """``when`` tells how far the test was."""
        self._recorder = recorder
        self._when = when
        self._begin = recorder.callbacks, len(recorder.every_call)

    def check(self) -> None:
        """See whether there were too many callbacks by now. Raises `NotSettledError`."""
        callbacks, calls = self._begin
        count = self._recorder.callbacks - callbacks
        if count <= MOST_CALLBACKS:
            return
        kinds = Counter((call.plugin, call.name) for call in self._recorder.every_call[calls:] if call.is_callback)
        (plugin, name), most = kinds.most_common(1)[0]
        raise NotSettledError(
            f"plugin {plugin!r} does not come to rest: {name.removeprefix('proxy_')} came {most:,} times"
            f" {self._when()}, and goes on"
        )


def others() -> list[asyncio.Task[object]]:
    """The tasks of the running event loop beside the one that asks: what they are about, nobody knows."""
    present = asyncio.current_task()
    return [
        task
        for task in asyncio.all_tasks()
        if task is not present and getattr(task.get_coro(), "__qualname__", "") not in _RUNNERS
    ]


def who_paused(calls: Sequence[Call]) -> str | None:
    """Which plugin holds something back, as far as these calls tell."""
    for call in reversed(calls):
        if call.action == "PAUSE":
            name = call.name.removeprefix("proxy_")
            return (
                f"plugin {call.plugin!r} paused it in {name}, and nothing resumed it. Time stands still meanwhile: for"
                " what comes later, let the request `begin`, and `advance` the clock"
            )
    return None
