"""Without sockets: microseconds and Python calls of one request, of a hostcall, of a start."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp, Message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.bench.apps import Setup

_HEADERS = [
    (b"host", b"127.0.0.1:8000"),
    (b"user-agent", b"wrk/4.2"),
    (b"accept", b"*/*"),
    (b"x-request-id", b"abcdef"),
]
# Long enough for the clock, short enough to be interleaved with the others.
_SAMPLE_SECONDS = 0.02
# What is looked at before each request of a subject that is `cold`: one byte of each page.
_OTHER_MEMORY = 16 << 20
_PAGE = 4096
_COLD_REQUESTS = 200


@dataclass(frozen=True)
class Request:
    """What a client sends: a body goes in ``pieces`` of equal size."""

    path: str = "/"
    body: bytes = b""
    pieces: int = 1

    def scope(self) -> dict[str, Any]:
        """As uvicorn makes it."""
        sized = [(b"content-length", b"%d" % len(self.body))] if self.body else []
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST" if self.body else "GET",
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"x=1",
            "root_path": "",
            "headers": [*_HEADERS, *sized],
            "client": ("127.0.0.1", 40000),
            "server": ("127.0.0.1", 8000),
        }

    def messages(self) -> list[Message]:
        """The request's messages, in order."""
        size = -(-len(self.body) // self.pieces)
        cut = [self.body[at : at + size] for at in range(0, len(self.body), size or 1)] or [b""]
        last = len(cut) - 1
        return [{"type": "http.request", "body": piece, "more_body": index < last} for index, piece in enumerate(cut)]


@dataclass(frozen=True)
class Subject:
    """What is measured: one kind of request to one kind of app."""

    setup: Setup
    request: Request = Request()
    # Whether other memory is looked at before each request, as a server's own work would do: what a request touches is
    # to be found anew then, which a loop of requests alone never shows.
    cold: bool = False


@dataclass(frozen=True)
class Timing:
    """Microseconds of one request: the median of the samples, the least and the most; and its Python calls."""

    median: float
    least: float
    most: float
    calls: int


async def nowhere(_: Message) -> None:
    """A `send` that costs next to nothing."""


def one_request(app: ASGIApp, request: Request) -> Callable[[], Awaitable[None]]:
    """A function that sends the request once. The scope is each time a new one, as a server's is."""
    scope, messages = request.scope(), request.messages()

    async def run() -> None:
        left = iter(messages)

        async def receive() -> Message:
            message = next(left, None)
            return {"type": "http.disconnect"} if message is None else message

        await app(dict(scope), receive, nowhere)

    return run


@asynccontextmanager
async def started(setup: Setup) -> AsyncIterator[ASGIApp]:
    """The app, with its plugins running."""
    app = setup.build()
    if isinstance(app, WasmMiddleware):
        await app.start()
    try:
        yield app
    finally:
        if isinstance(app, WasmMiddleware):
            await app.stop()


async def calls_of(run: Callable[[], Awaitable[None]]) -> int:
    """How many Python functions one request calls, ours of this file left out. Deterministic after a warm-up.

    But for the watchdog, which now and then looks at a guest that runs: so the least of several requests.
    """
    for _ in range(3):
        await run()
    return min([await _calls(run) for _ in range(5)])


async def _calls(run: Callable[[], Awaitable[None]]) -> int:
    count = 0

    def notice(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        if event == "call" and frame.f_code.co_filename != __file__:
            count += 1

    sys.setprofile(notice)
    try:
        await run()
    finally:
        sys.setprofile(None)
    return count


async def time_requests(subjects: Mapping[str, Subject], rounds: int) -> dict[str, Timing]:
    """Each subject in turn, as often as ``rounds`` says, so that a change of the machine's speed meets all of them."""
    samples: dict[str, list[float]] = {name: [] for name in subjects}
    calls: dict[str, int] = {}
    async with _all_started(subjects) as runs:
        counts = {}
        for name, run in runs.items():
            calls[name] = await calls_of(run)
            counts[name] = max(1, round(_SAMPLE_SECONDS / await _seconds(run, 3)))
        other = bytearray(b"x" * _OTHER_MEMORY)
        for _ in range(rounds):
            for name, run in runs.items():
                cold = subjects[name].cold
                seconds = await (_cold_seconds(run, other) if cold else _seconds(run, counts[name]))
                samples[name].append(seconds * 1e6)
    return {
        name: Timing(statistics.median(found), min(found), max(found), calls[name]) for name, found in samples.items()
    }


@asynccontextmanager
async def _all_started(subjects: Mapping[str, Subject]) -> AsyncIterator[dict[str, Callable[[], Awaitable[None]]]]:
    async with AsyncExitStack() as stack:
        runs = {}
        for name, subject in subjects.items():
            app = await stack.enter_async_context(started(subject.setup))
            runs[name] = one_request(app, subject.request)
        yield runs


async def _seconds(run: Callable[[], Awaitable[None]], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        await run()
    return (time.perf_counter() - began) / count


async def _cold_seconds(run: Callable[[], Awaitable[None]], other: bytearray) -> float:
    total = 0.0
    for _ in range(_COLD_REQUESTS):
        other[::_PAGE]  # looked at, which is all
        began = time.perf_counter()
        await run()
        total += time.perf_counter() - began
    return total / _COLD_REQUESTS


# --- starting


def time_starts(setup: Setup, cache_dirs: Iterable[str]) -> dict[str, float]:
    """Milliseconds, medians over as many empty cache folders: ``cold`` (compiles), ``warm`` (from the cache), and
    what each further VM takes.
    """
    cold: list[float] = []
    warm: list[float] = []
    nine: list[float] = []
    for cache_dir in cache_dirs:
        cached = replace(setup, cache_dir=cache_dir)
        several = replace(cached, plugins=cached.plugins * 9)
        for found, subject in ((cold, cached), (warm, cached), (nine, several)):
            found.append(asyncio.run(_start(subject)))
    one = statistics.median(warm)
    return {"cold": statistics.median(cold), "warm": one, "vm": (statistics.median(nine) - one) / 8}


async def _start(setup: Setup) -> float:
    began = time.perf_counter()
    async with started(setup):
        return (time.perf_counter() - began) * 1e3
