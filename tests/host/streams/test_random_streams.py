"""Random streams through filters that answer at random."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_wasm.host.streams.direction import Direction
from asgi_wasm.host.streams.header_map import HeaderMap
from tests.host.fed import REQUEST_HEADERS, RESPONSE_HEADERS, Exchange, RecordingSink
from tests.host.guest import Calls, plugin
from tests.host.world import World


@dataclass
class Script:
    """What one filter answers, and what it heard."""

    allow: bool
    exports: frozenset[str]
    headers: int
    data: list[int]
    trailers: int
    heard: list[tuple[Any, ...]] = field(default_factory=list)
    buffered: list[bool] = field(default_factory=list)

    def callbacks(self, way: str) -> dict[str, Callable[..., Any]]:
        answers = itertools.cycle(self.data or [0])
        kind = 0 if way == "request" else 1

        def headers(_calls: Calls, _context: int, _count: int, end: int) -> int:
            self.heard.append(("headers", bool(end)))
            return self.headers

        def body(calls: Calls, _context: int, size: int, end: int) -> int:
            status, data = calls("proxy_get_buffer_bytes", kind, 0, 0x7FFF_FFFF)
            assert (status, len(data)) == (0, size)
            verdict = next(answers)
            self.heard.append(("data", data, bool(end)))
            self.buffered.append(verdict == 1)
            return verdict

        def trailers(*_: Any) -> int:
            self.heard.append(("trailers",))
            return self.trailers

        known = {"headers": headers, "body": body, "trailers": trailers}
        return {f"proxy_on_{way}_{name}": known[name] for name in known if name in self.exports}


SCRIPTS = st.lists(
    st.builds(
        Script,
        allow=st.booleans(),
        exports=st.frozensets(st.sampled_from(["headers", "body", "trailers"])),
        headers=st.sampled_from([0, 0, 1, 2, 3, 4, 9]),
        data=st.lists(st.sampled_from([0, 0, 1, 1, 2]), max_size=4),
        trailers=st.sampled_from([0, 0, 1]),
    ),
    min_size=1,
    max_size=3,
)
DROPPING = st.builds(
    Script,
    allow=st.booleans(),
    exports=st.just(frozenset({"headers", "body"})),
    headers=st.sampled_from([0, 1]),
    data=st.lists(st.sampled_from([0, 1, 2, 3, 9]), min_size=1, max_size=4),
    trailers=st.just(0),
)
# A piece of so many bytes, or a resume of the filter of this index.
STEPS = st.lists(st.one_of(st.integers(1, 9), st.tuples(st.integers(0, 2))), max_size=8)
ENDINGS = st.sampled_from(["last piece", "empty piece", "trailers"])


class Run:
    """One direction through scripted filters."""

    def __init__(self, way: str, scripts: list[Script]) -> None:
        self.scripts = scripts
        self.errors: list[Exception] = []
        world = World()
        plugins = [
            plugin(
                world,
                script.callbacks(way),
                name=f"p{index}",
                errors=self.errors,
                allow_on_headers_stop_iteration=script.allow,
            )
            for index, script in enumerate(scripts)
        ]
        self.exchange = Exchange(world, *plugins)
        self.way = way
        self.sent = b""
        self.counter = itertools.count()

    def begin(self, end: bool) -> None:
        chain = self.exchange.chain
        if self.way == "request":
            chain.request.headers(HeaderMap(REQUEST_HEADERS), end)
        else:
            chain.request.headers(HeaderMap(REQUEST_HEADERS), True)
            chain.respond(HeaderMap(RESPONSE_HEADERS), end)

    @property
    def direction(self) -> Direction:
        chain = self.exchange.chain
        found = chain.request if self.way == "request" else chain.response
        assert found is not None
        return found

    @property
    def sink(self) -> RecordingSink:
        return self.exchange.app if self.way == "request" else self.exchange.client

    def piece(self, size: int, end: bool) -> None:
        data = bytes(next(self.counter) % 256 for _ in range(size))
        self.sent += data
        self.direction.data(data, end)

    def resume(self, index: int) -> None:
        contexts = self.exchange.chain.contexts
        if index < len(contexts):
            self.direction.resume(contexts[index])

    def play(self, steps: list[Any], ending: str) -> None:
        sizes = [step for step in steps if isinstance(step, int)]
        headers_only = not sizes and ending == "last piece"
        self.begin(headers_only)
        last = len(steps) - 1 - next((i for i, step in enumerate(reversed(steps)) if isinstance(step, int)), len(steps))
        for index, step in enumerate(steps):
            if isinstance(step, tuple):
                self.resume(step[0])
            else:
                self.piece(step, ending == "last piece" and index == last)
        if ending == "empty piece":
            self.piece(0, True)
        elif ending == "trailers":
            self.direction.trailers(HeaderMap([(b"t", b"1")]))

    def resume_all(self) -> None:
        for _ in range(100):
            if self.direction.paused_by is None:
                return
            self.direction.resume(self.direction.paused_by)
        raise AssertionError("resuming does not end the pause")


def check_order(events: list[tuple[Any, ...]], *, complete: bool, sees_end: bool = True) -> None:
    """Headers once and first, then data, then trailers; the end at most (or exactly) once, and nothing after it."""
    kinds = [event[0] for event in events]
    assert kinds == sorted(kinds, key=["headers", "data", "trailers"].index)
    assert kinds.count("headers") <= 1 and kinds.count("trailers") <= 1
    ends = [event[0] == "trailers" or event[-1] is True for event in events]
    assert sum(ends) <= 1 and not any(ends[:-1])
    if complete and sees_end:
        assert ends and ends[-1]


@pytest.mark.parametrize("way", ["request", "response"])
@settings(deadline=None, max_examples=150)
@given(scripts=SCRIPTS, steps=STEPS, ending=ENDINGS)
def test_nothing_is_lost_doubled_or_reordered(way: str, scripts: list[Script], steps: list[Any], ending: str) -> None:
    run = Run(way, [Script(s.allow, s.exports, s.headers, s.data, s.trailers) for s in scripts])
    run.play(steps, ending)
    run.resume_all()
    assert run.errors == []
    sink = run.sink
    check_order(sink.events, complete=True)
    assert [event[0] for event in sink.events][:1] == ["headers"]
    assert sink.body == run.sent
    for script in run.scripts:
        sees_end = {"headers", "body", "trailers"} <= script.exports
        check_order(script.heard, complete=True, sees_end=sees_end)
        if "headers" in script.exports:
            assert script.heard[0][0] == "headers"
        check_body(script, run.sent)


def check_body(script: Script, sent: bytes) -> None:
    """A body callback sees all of it: after "buffer" once more what is held, otherwise only what is new."""
    if "body" not in script.exports:
        return
    position = 0
    shown = [event[1] for event in script.heard if event[0] == "data"]
    for index, data in enumerate(shown):
        start = sent.index(data) if data else position  # bytes are numbered
        assert start == position or (index > 0 and script.buffered[index - 1] and start < position)
        position = start + len(data)
    assert position == len(sent)


@pytest.mark.parametrize("way", ["request", "response"])
@settings(deadline=None, max_examples=100)
@given(script=DROPPING, steps=STEPS, ending=ENDINGS)
def test_what_a_plugin_drops_is_all_that_is_missing(way: str, script: Script, steps: list[Any], ending: str) -> None:
    run = Run(way, [Script(script.allow, script.exports, script.headers, script.data, script.trailers)])
    run.play(steps, ending)
    run.resume_all()
    assert run.errors == []
    check_order(run.sink.events, complete=True)
    # Bytes are numbered: what came is in order, and nothing came twice.
    got = list(run.sink.body)
    assert got == sorted(set(got))
    if 3 not in script.data and 9 not in script.data:
        assert run.sink.body == run.sent


@pytest.mark.parametrize("way", ["request", "response"])
@settings(deadline=None, max_examples=100)
@given(scripts=SCRIPTS, steps=STEPS, later=STEPS)
def test_after_close_no_callback_comes_and_nothing_passes(
    way: str, scripts: list[Script], steps: list[Any], later: list[Any]
) -> None:
    run = Run(way, [Script(s.allow, s.exports, s.headers, s.data, s.trailers) for s in scripts])
    run.begin(False)
    for step in steps:
        run.resume(step[0]) if isinstance(step, tuple) else run.piece(step, False)
    run.direction.close()
    heard = [list(script.heard) for script in run.scripts]
    passed = list(run.sink.events)
    for step in later:
        run.resume(step[0]) if isinstance(step, tuple) else run.piece(step, False)
    run.direction.trailers(HeaderMap())
    assert run.direction.paused_by is None
    assert [script.heard for script in run.scripts] == heard
    assert run.sink.events == passed


@pytest.mark.parametrize("way", ["request", "response"])
def test_back_pressure(way: str) -> None:
    run = Run(way, [Script(False, frozenset({"headers", "body"}), 0, [2], 0)])
    run.begin(False)
    assert run.direction.wants_data
    for _ in range(5):
        run.piece(256 * 1024, False)
    assert not run.direction.wants_data  # more than 1 MiB is held, and it is no failure
    assert run.exchange.client.reason is None
    run.resume(0)
    assert run.direction.wants_data
    assert run.sink.body == run.sent


@pytest.mark.parametrize(
    ("exports", "verdict", "reads"),
    [({"headers"}, 0, False), ({"body"}, 0, True), ({"trailers"}, 0, True), ({"headers"}, 1, True)],
)
def test_a_body_that_nobody_looks_at_may_bypass_the_chain(exports: set[str], verdict: int, reads: bool) -> None:
    run = Run("request", [Script(False, frozenset(exports), verdict, [], 0)])
    run.begin(False)
    assert run.direction.reads_body is reads
