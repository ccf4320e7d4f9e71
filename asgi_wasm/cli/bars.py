"""The bars of `progress`, drawn by rich. A module of its own, imported when there is something to draw."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import RLock, Timer

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from asgi_wasm.logs import escape

# Before that nothing is shown: it would only flicker.
SECONDS = 1.0


class _Amount(ProgressColumn):
    """Bytes or steps, whichever a task has; nothing where it has neither."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes, self._steps = DownloadColumn(), MofNCompleteColumn()

    def render(self, task: Task) -> Text:
        if task.fields["counts"] == "bytes":
            return self._bytes.render(task)
        return Text() if task.total is None else self._steps.render(task)


class Display:
    """What is under way; shown while anything is, once that takes long. May be told from any thread."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._progress: Progress | None = None
        self._timer: Timer | None = None

    @contextmanager
    def doing(self, what: str, total: int | None, counts: str) -> Iterator[Callable[[int], None]]:
        """One thing more, for as long as it lasts: it is told of what is done."""
        with self._lock:
            progress = self._progress or self._make()
            task = progress.add_task(escape(what), total=total, counts=counts)
        try:
            yield partial(progress.advance, task)
        finally:
            with self._lock:
                progress.remove_task(task)
                if not progress.tasks:
                    self._end()

    def _make(self) -> Progress:
        words = TextColumn("{task.description}", markup=False)
        console = Console(file=sys.stderr, highlight=False, emoji=False)
        self._progress = Progress(words, BarColumn(), _Amount(), console=console, transient=True)
        self._timer = Timer(SECONDS, self._show)
        self._timer.daemon = True
        self._timer.start()
        return self._progress

    def _show(self) -> None:
        with self._lock:
            if self._progress is not None:
                self._progress.start()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._progress is not None:
            self._progress.stop()
        self._progress = None
