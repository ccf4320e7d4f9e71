"""The table of one gRPC token, over the whole product of its states and inputs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_wasm.host.abi import HostcallError, ProxyStatus
from asgi_wasm.host.vm.grpc_tokens import GrpcInput, GrpcState, GrpcTokens

_FROM_THE_PLUGIN = st.sampled_from([item for item in GrpcInput if item is not GrpcInput.REMOTE_CLOSE])


def told(tokens: GrpcTokens, what: GrpcInput) -> bool | None:
    """Whether the other side is told; None for a token that is gone."""
    try:
        return tokens.apply(6, what)
    except HostcallError as error:
        assert error.status == ProxyStatus.NOT_FOUND
        return None


@given(st.sampled_from([GrpcState.OPEN, GrpcState.HALF_CLOSED]), st.lists(_FROM_THE_PLUGIN), st.lists(_FROM_THE_PLUGIN))
def test_any_order(state: GrpcState, before: list[GrpcInput], after: list[GrpcInput]) -> None:
    tokens = GrpcTokens()
    tokens.begin(6, state)
    answers = [(what, told(tokens, what)) for what in before]
    ends = [what for what, answer in answers if what in (GrpcInput.END, GrpcInput.CLOSE) and answer]
    assert len(ends) <= (state is GrpcState.OPEN)
    # Only a cancel makes it go, and the other side hears of that once.
    gone = GrpcInput.CANCEL in before
    assert (6 not in tokens) is gone
    assert [answer for what, answer in answers if what is GrpcInput.CANCEL and answer is not None] == [True] * gone
    # After the end no message is sent.
    if ends:
        assert not any(
            answer for what, answer in answers[answers.index((ends[0], True)) + 1 :] if what is GrpcInput.SEND
        )
    if gone:
        return
    assert tokens.apply(6, GrpcInput.REMOTE_CLOSE) is False
    # Nobody is there any more: nothing is told, and the first close or cancel makes it go.
    assert not any(told(tokens, what) for what in after)
    assert (6 in tokens) is not any(what in (GrpcInput.CLOSE, GrpcInput.CANCEL) for what in after)


def test_tokens_are_apart_and_can_be_forgotten() -> None:
    tokens = GrpcTokens()
    tokens.begin(6, GrpcState.OPEN)
    tokens.begin(10, GrpcState.OPEN)
    tokens.forget(6)
    tokens.forget(6)
    assert told(tokens, GrpcInput.SEND) is None
    assert tokens.apply(10, GrpcInput.SEND)
    tokens.clear()
    assert not tokens


@pytest.mark.parametrize("what", GrpcInput)
def test_a_token_that_was_never_given_is_not_found(what: GrpcInput) -> None:
    assert told(GrpcTokens(), what) is None
