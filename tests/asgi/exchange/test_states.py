"""The tables of a request's and a response's states: over their whole product, over random walks, and in use."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_wasm.asgi.exchange.sides import ResponseSide
from asgi_wasm.asgi.exchange.states import (
    ANSWERED_BY_APP,
    ENDED_BY_PLUGINS,
    FROM_APP,
    HANDSHAKE,
    HEARD,
    STARTED,
    TO_CLIENT,
    Answer,
    ClientState,
    HandshakeState,
    Heard,
    Part,
    ResponseState,
    StateError,
)
from asgi_wasm.asgi.messages.lengths import said_by
from asgi_wasm.host.streams.header_map import HeaderMap

HEADS = {Part.HELD_HEAD, Part.HEAD, Part.ONLY_HEAD}
ENDINGS = {ResponseState.DONE, ResponseState.REFUSED, ResponseState.CUT}
UNHEARD = {ResponseState.UNHEARD_BODY, ResponseState.UNHEARD_TRAILERS}


def reachable(table: Mapping[Any, Any], first: IntEnum) -> set[IntEnum]:
    found, waiting = {first}, [first]
    while waiting:
        state = waiting.pop()
        for (before, _), after in table.items():
            if before is state and after not in found:
                found.add(after)
                waiting.append(after)
    return found


def test_whatever_a_client_says_has_a_row() -> None:
    for state in ClientState:
        for event in Heard:
            after = HEARD[state, event]
            # It goes once, and neither comes back nor has more to say.
            assert (after is ClientState.GONE) == (state is ClientState.GONE or event is Heard.LEAVES)
            # What has ended does not go on.
            assert state is not ClientState.ENDED or after in (ClientState.ENDED, ClientState.GONE)


@pytest.mark.parametrize("part", Part, ids=lambda part: part.name)
@pytest.mark.parametrize("state", ResponseState, ids=lambda state: state.name)
def test_a_response_to_the_client_goes_forward_only(state: ResponseState, part: Part) -> None:
    after = TO_CLIENT.get((state, part))
    if state in UNHEARD or part is Part.TRAILERS:
        # Of an app's response alone.
        assert after is None
    elif part is Part.RESET:
        assert after in ENDINGS
        assert (after in STARTED) == (state in STARTED)
    elif part in HEADS:
        # Until a head is out, another may take its place.
        assert (after is None) == (state not in (ResponseState.IDLE, ResponseState.HELD))
    elif state in ENDINGS or state not in STARTED:
        assert after is None
    elif after is not None:
        assert after >= state


@pytest.mark.parametrize("part", Part, ids=lambda part: part.name)
@pytest.mark.parametrize("state", ResponseState, ids=lambda state: state.name)
def test_an_app_says_one_head_then_a_body_then_trailers(state: ResponseState, part: Part) -> None:
    after = FROM_APP.get((state, part))
    if part in (Part.HELD_HEAD, Part.RESET) or state in ENDINGS or state is ResponseState.HELD:
        assert after is None
    elif part in HEADS:
        assert (after is None) == (state is not ResponseState.IDLE)
    elif after is not None:
        # What is for nobody does not become for somebody.
        assert (after in UNHEARD or after is ResponseState.DONE) if state in UNHEARD else after not in UNHEARD
        assert after >= state


@pytest.mark.parametrize("answer", Answer, ids=lambda answer: answer.name)
@pytest.mark.parametrize("state", HandshakeState, ids=lambda state: state.name)
def test_a_handshake_is_answered_once_by_the_app_or_by_plugins(state: HandshakeState, answer: Answer) -> None:
    after = HANDSHAKE.get((state, answer))
    if state in ENDED_BY_PLUGINS:
        assert after is None
    elif answer is Answer.BY_PLUGIN:
        # They have the last word, before and after the app's.
        assert after in ENDED_BY_PLUGINS
        assert (after in ANSWERED_BY_APP) == (state in ANSWERED_BY_APP)
    elif after is not None:
        assert (after in ANSWERED_BY_APP) == (answer is Answer.PASSES)
        # What nobody heard was no answer.
        assert (after is HandshakeState.OPEN) == (answer is Answer.TO_NOBODY)


def test_every_state_is_reached_where_it_has_a_meaning() -> None:
    assert reachable(HEARD, ClientState.ANNOUNCED) == set(ClientState)
    assert reachable(HANDSHAKE, HandshakeState.OPEN) == set(HandshakeState)
    assert reachable(TO_CLIENT, ResponseState.IDLE) == set(ResponseState) - UNHEARD
    assert reachable(FROM_APP, ResponseState.IDLE) == set(ResponseState) - {
        ResponseState.HELD,
        ResponseState.REFUSED,
        ResponseState.CUT,
    }


def test_a_step_that_no_table_has_says_which() -> None:
    with pytest.raises(StateError, match="PIECE cannot come in the state DONE of ResponseState"):
        TO_CLIENT[ResponseState.DONE, Part.PIECE]
    side = ResponseSide("GET", lambda: None, lambda _: None, trailers=False)
    with pytest.raises(StateError, match="PIECE cannot come in the state IDLE"):
        side.data(b"a", False)
    assert not side.messages


@given(st.data())
def test_any_walk_of_legal_steps_is_one_whole_response_or_none(data: st.DataObject) -> None:
    """A real far end, led by its table: what goes out is one head, then a body that ends once, however it went."""
    changes = data.draw(st.booleans())
    side = ResponseSide("GET", lambda: None, lambda _: None, trailers=True)
    side.may_change = changes
    side.length.own = 5 if changes else None
    passed = b""
    for _ in range(data.draw(st.integers(1, 8))):
        head = Part.HELD_HEAD if changes else Part.HEAD
        legal = [part for part in (head, Part.PIECE, Part.END, Part.RESET) if (side.state, part) in TO_CLIENT]
        if side.state is ResponseState.HELD:
            # Its first piece lets it go.
            legal += [Part.PIECE, Part.END]
        part = data.draw(st.sampled_from(legal))
        before = side.state
        if part is Part.RESET:
            side.reset("because")
            assert (side.reset_reason is None) == (before is ResponseState.DONE)
        elif part in HEADS:
            side.headers(HeaderMap([(b":status", b"200"), (b"trailer", b"x")]), False)
        else:
            piece = data.draw(st.binary(max_size=4))
            side.data(piece, part is Part.END)
            passed += piece
    kinds = [message["type"] for message in side.messages]
    assert kinds[:1] in ([], ["http.response.start"])
    assert kinds.count("http.response.start") == (side.state in STARTED)
    bodies = [message for message in side.messages if message["type"] == "http.response.body"]
    assert b"".join(message["body"] for message in bodies) == passed
    assert [message["more_body"] for message in bodies].count(False) == side.complete
    if side.complete:
        assert bodies[-1]["more_body"] is False
        announced = said_by(side.messages[0]["headers"])
        assert announced in (None, len(passed))
