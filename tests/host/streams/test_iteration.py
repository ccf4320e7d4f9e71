"""The state table of one direction, over its whole product, and its doing over random streams."""

from __future__ import annotations

import pytest

from asgi_wasm.host.streams.iteration import (
    TRANSITIONS,
    Action,
    Input,
    State,
    data_input,
    headers_input,
    trailers_input,
)

HEADERS = {item for item in Input if item.name.startswith("HEADERS_")}
VERDICTS = {item for item in Input if item.name.startswith(("DATA_", "TRAILERS_"))} - {
    Input.DATA_ARRIVES,
    Input.TRAILERS_ARRIVE,
}
STOP_ALL = {State.STOP_ALL_BUFFER, State.STOP_ALL_WATERMARK}
# Why a pair has no row.
IMPOSSIBLE = {
    **{(State.STOP_SINGLE, item): "headers come once, before anything can have stopped" for item in HEADERS},
    **{(state, item): "headers come once, before anything can have stopped" for state in STOP_ALL for item in HEADERS},
    **{(state, item): "no callback is asked while all is stopped" for state in STOP_ALL for item in VERDICTS},
}


@pytest.mark.parametrize("event", Input, ids=lambda item: item.name)
@pytest.mark.parametrize("state", State, ids=lambda item: item.name)
def test_each_pair_is_a_row_or_impossible_for_a_reason(state: State, event: Input) -> None:
    row = TRANSITIONS.get((state, event))
    assert (row is None) == ((state, event) in IMPOSSIBLE)
    if row is None:
        return
    target, action = row
    if state is State.CLOSED or event is Input.CLOSE:
        assert (target, action) == (State.CLOSED, Action.IGNORE)
        return
    assert target is not State.CLOSED
    # What holds leaves the filter stopped; what passes leaves it open.
    if action in (Action.HOLD, Action.DROP):
        assert target is not State.CONTINUE
    if action in (Action.PASS, Action.RELEASE, Action.REPLAY):
        assert target is State.CONTINUE
    # A callback is asked only where its verdict has a row.
    if action is Action.CALL:
        kind = "DATA_" if event is Input.DATA_ARRIVES else "TRAILERS_"
        assert all((state, item) in TRANSITIONS for item in VERDICTS if item.name.startswith(kind))


@pytest.mark.parametrize(
    ("verdict", "allowed", "event"),
    [
        (0, False, Input.HEADERS_CONTINUE),
        (1, False, Input.HEADERS_STOP_ALL_WATERMARK),
        (1, True, Input.HEADERS_STOP),
        (2, False, Input.HEADERS_CONTINUE),
        (3, False, Input.HEADERS_STOP_ALL_BUFFER),
        (3, True, Input.HEADERS_STOP_ALL_BUFFER),
        (4, False, Input.HEADERS_STOP_ALL_WATERMARK),
        (5, True, Input.HEADERS_STOP_ALL_WATERMARK),
        (0xFFFF_FFFF, True, Input.HEADERS_STOP_ALL_WATERMARK),
    ],
)
def test_verdicts_on_headers(verdict: int, allowed: bool, event: Input) -> None:
    assert headers_input(verdict, allow_stop_iteration=allowed) is event


def test_verdicts_on_data_and_trailers() -> None:
    assert [data_input(verdict) for verdict in (0, 1, 2, 3, 4, 0xFFFF_FFFF)] == [
        Input.DATA_CONTINUE,
        Input.DATA_BUFFER,
        Input.DATA_WATERMARK,
        *[Input.DATA_NO_BUFFER] * 3,
    ]
    assert [trailers_input(verdict) for verdict in (0, 1, 7)] == [
        Input.TRAILERS_CONTINUE,
        *[Input.TRAILERS_STOP] * 2,
    ]
