"""What happens in one stream: drawn by hypothesis, played by `playing`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

# --- the client


@dataclass(frozen=True)
class Client:
    """``pieces`` come ``pace`` seconds apart; it leaves after so many seconds, or stays."""

    method: str
    version: str
    pieces: tuple[bytes, ...]
    # How the body is announced: by its "length", as "chunked", or "not at all".
    announced: str
    # The end comes with the last piece, or in an empty one.
    ends_apart: bool
    pace: float
    leaves: float | None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        if self.announced == "length":
            return [(b"content-length", b"%d" % len(b"".join(self.pieces)))]
        return [(b"transfer-encoding", b"chunked")] if self.announced == "chunked" else []


# --- the app


@dataclass(frozen=True)
class App:
    """Reads, answers, and ends in one of several ways."""

    # How many messages it reads before it answers; None: all.
    reads: int | None
    status: int
    pieces: tuple[bytes, ...]
    # Whether it declares a content-length, which is off by so many bytes.
    sized: bool
    wrong_by: int
    trailers: bool
    pace: float
    # "returns"; raises "at once", "in the middle", "at the end"; "sends on" after its end; "leaves the end out".
    ending: str

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        if not self.sized:
            return []
        return [(b"content-length", b"%d" % max(0, len(b"".join(self.pieces)) + self.wrong_by))]

    @property
    def is_faulty(self) -> bool:
        return (self.sized and self.wrong_by != 0) or self.ending in ("sends on", "leaves the end out", "in the middle")


# --- plugins

#: What a callback does: `("pass",)`, `("hold", ticks)`, `("stop",)`, which nobody resumes, `("body", bytes)`,
#: `("length", bytes or None)`, `("status", bytes)`, `("method", bytes)`, `("answer", status, body)`, `("close",)`,
#: `("fill", bytes, ticks)`, which holds, and writes at the resume.
Action = tuple[Any, ...]
#: Request headers, request body, response headers, response body, response trailers; an action a call.
PHASES = ("Q", "q", "S", "s", "t")
Script = dict[str, list[Action]]


@dataclass(frozen=True)
class Plan:
    """One stream."""

    client: Client
    app: App
    scripts: list[Script] = field(default_factory=list)
    # When the server cancels the call, and how often.
    cancelled: float | None = None
    cancels: int = 1

    @property
    def actions(self) -> set[str]:
        return {action[0] for script in self.scripts for actions in script.values() for action in actions}

    @property
    def only_holds(self) -> bool:
        """Whether plugins do nothing that anybody could see."""
        return self.actions <= {"pass", "hold"}


# A strategy of few draws: drawing takes most of the time of a run. Lists begin with what is simplest, for shrinking.

_BYTES = (b"", b"x", b"hello", b"0123456789")
_PIECES: tuple[tuple[bytes, ...], ...] = (
    (),
    (b"",),
    (b"hello",),
    (b"x", b"hello"),
    (b"hello", b""),
    (b"", b"x"),
    (b"x", b"", b"0123456789"),
    (b"x", b"x", b"x"),
    (b"hello", b"x"),
    (b"0123456789", b"hello"),
)
_TICKS = (1, 2, 4)


def _clients() -> list[Client]:
    bodies: list[tuple[str, str, tuple[bytes, ...], str]]
    bodies = [(method, version, (), "not at all") for method in ("GET", "HEAD", "POST") for version in ("1.1", "2")]
    bodies += [
        (method, version, pieces, announced)
        for method, announcements in (("POST", ("length", "chunked", "not at all")), ("GET", ("length", "not at all")))
        for version in ("1.1", "2")
        for pieces in _PIECES[1:]
        for announced in announcements
    ]
    return [
        Client(*body, ends_apart=apart, pace=pace, leaves=leaves)
        for leaves in (None, None, 0.0, 0.004, 0.02)
        for pace in (0.0, 0.007)
        for apart in (False, True)
        for body in bodies
    ]


def _apps() -> list[App]:
    return [
        App(reads, status, pieces, sized=sized, wrong_by=wrong, trailers=trailers, pace=pace, ending=ending)
        for wrong in (0, 0, 0, -1, 3)
        for ending in ("returns", "returns", "at once", "in the middle", "at the end", "sends on")
        for trailers in (False, False, True)
        for pace in (0.0, 0.007)
        for reads in (None, None, 0, 1)
        for status in (200, 200, 200, 206, 204, 304)
        for sized in (False, True)
        for pieces in _PIECES
    ]


_HOLDS: list[Action] = [("hold", ticks) for ticks in _TICKS]
_ENDS: list[Action] = [
    ("stop",),
    ("close",),
    *(("answer", status, body) for status in (403, 204, 304) for body in (b"", b"denied")),
]
_LENGTHS: list[Action] = [("length", value) for value in (None, b"0", b"3", b"300", b"many")]
_BODIES: list[Action] = [
    *(("body", value) for value in _BYTES),
    *(("fill", value, ticks) for value in _BYTES for ticks in _TICKS),
]
_STATUSES: list[Action] = [("status", value) for value in (b"204", b"304", b"206")]
_METHODS: list[Action] = [("method", value) for value in (b"HEAD", b"GET")]
# What a phase has beside holding. Ends come seldom enough for the rest to happen.
_OF_PHASE = {
    "Q": [*_LENGTHS, *_METHODS, *_ENDS],
    "q": [*_BODIES, *_BODIES, *_ENDS[:3]],
    "S": [*_LENGTHS, *_STATUSES, *_ENDS],
    "s": [*_BODIES, *_BODIES, *_ENDS[:3]],
    "t": _ENDS,
}


def _sequences(actions: list[Action]) -> st.SearchStrategy[list[Action]]:
    """At most two calls that do something, or one after some that pass."""
    passes: Action = ("pass",)
    ones = [[], [], [], *([action] for action in actions), *([passes, action] for action in actions)]
    ones += [[passes, passes, action] for action in actions]
    twos = [[first, second] for first in actions for second in actions]
    return st.one_of(st.sampled_from(ones), st.sampled_from(twos))


def _scripts(harmless: bool) -> st.SearchStrategy[list[Script]]:
    phases = {phase: _sequences(_HOLDS if harmless else [*_HOLDS, *_OF_PHASE[phase]]) for phase in PHASES}
    return st.lists(st.fixed_dictionaries(phases), min_size=1, max_size=3)


def plans() -> st.SearchStrategy[Plan]:
    """Half of them with plugins that only hold and let go."""
    never: list[tuple[float | None, int]] = [(None, 1)] * 6
    return st.builds(
        lambda client, app, scripts, cancel: Plan(client, app, scripts, *cancel),
        st.sampled_from(_clients()),
        st.sampled_from(_apps()),
        st.one_of(_scripts(harmless=True), _scripts(harmless=False)),
        st.sampled_from([*never, (0.0, 1), (0.003, 2), (0.012, 1), (0.012, 2)]),
    )
