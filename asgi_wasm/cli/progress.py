"""How far a command is that takes longer than a second: a bar on the terminal, which leaves nothing behind.

For people alone: nothing is shown where a program reads, which is with ``--json``, or where output goes to a file or
a pipe.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING

from asgi_wasm.fetching.watch import WATCH

if TYPE_CHECKING:
    from asgi_wasm.cli.bars import Display

# To be called with how much more is done.
Done = Callable[[int], object]


class _Person:
    """Who looks at a terminal."""

    def __init__(self) -> None:
        self._display: Display | None = None

    def steps(self, what: str, total: int | None, counts: str = "steps") -> AbstractContextManager[Done]:
        """Something is done."""
        if self._display is None:
            from asgi_wasm.cli.bars import Display

            self._display = Display()
        return self._display.doing(what, total, counts)

    def fetching(self, what: str, total: int | None) -> AbstractContextManager[Done]:
        """Show how much of a file has come; what it gives is told how many bytes more (`fetching.watch.Watch`)."""
        return self.steps(f"fetching {what}", total, "bytes")


_PERSON: ContextVar[_Person | None] = ContextVar("asgi_wasm.cli.progress", default=None)


@contextmanager
def shown(arguments: Sequence[str]) -> Iterator[None]:
    """Show it during a command with these arguments, if a person sees its output."""
    if "--json" in arguments or not (sys.stdout.isatty() and sys.stderr.isatty()):
        yield
        return
    person = _Person()
    kept, watched = _PERSON.set(person), WATCH.set(person.fetching)
    try:
        yield
    finally:
        WATCH.reset(watched)
        _PERSON.reset(kept)


def steps(what: str, total: int | None = None) -> AbstractContextManager[Done]:
    """Something that may take long, and of how many steps it is, if that is known."""
    person = _PERSON.get()
    return nullcontext(lambda _count: None) if person is None else person.steps(what, total)
