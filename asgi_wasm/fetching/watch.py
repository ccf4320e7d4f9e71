"""Who is told how far a fetch is: a command, which shows it. Nobody, unless somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar

# Is given what is fetched, and its bytes where the other side tells; it lasts as long as the fetch, and is told of each
# piece's bytes. On the thread that fetches.
Watch = Callable[[str, "int | None"], AbstractContextManager[Callable[[int], object]]]


def _nobody(_what: str, _total: int | None) -> AbstractContextManager[Callable[[int], object]]:
    return nullcontext(lambda _size: None)


WATCH: ContextVar[Watch] = ContextVar("asgi_wasm.fetching.watch", default=_nobody)
