"""One direction of a stream: which filter holds what, and what a verdict does.

Every rule is a row of `TRANSITIONS`; a pair that is not there cannot happen. The doing is in `Direction`.
Followed: Envoy `source/common/http/filter_manager.cc` (`commonHandleAfterHeadersCallback`,
`commonHandleAfterDataCallback`, `commonHandleAfterTrailersCallback`, `commonContinue`).
"""

from __future__ import annotations

from enum import IntEnum

from asgi_wasm.host.abi import DataStatus, HeadersStatus, TrailersStatus


class State(IntEnum):
    """How far one filter lets its direction go. The names are Envoy's `IterationState`."""

    #: Everything passes.
    CONTINUE = 0
    #: Headers or body are held; the body callback still gets each chunk.
    STOP_SINGLE = 1
    #: All is held and no callback comes; a body over the limit fails the stream.
    STOP_ALL_BUFFER = 2
    #: All is held and no callback comes; a body over the limit is not read on.
    STOP_ALL_WATERMARK = 3
    #: A local response or a reset ended this direction.
    CLOSED = 4


class Input(IntEnum):
    """What a filter's callback answered, or what happened to the direction."""

    HEADERS_CONTINUE = 0
    HEADERS_STOP = 1
    HEADERS_STOP_ALL_BUFFER = 2
    HEADERS_STOP_ALL_WATERMARK = 3
    DATA_ARRIVES = 4
    DATA_CONTINUE = 5
    DATA_BUFFER = 6
    DATA_WATERMARK = 7
    DATA_NO_BUFFER = 8
    TRAILERS_ARRIVE = 9
    TRAILERS_CONTINUE = 10
    TRAILERS_STOP = 11
    RESUME = 12
    CLOSE = 13


class Action(IntEnum):
    """What is to be done on a transition."""

    #: Ask the filter's callback.
    CALL = 0
    #: Hand this piece to the next filter.
    PASS = 1
    #: Keep this piece with what is held already.
    HOLD = 2
    #: The plugin said that it took the piece: forget it.
    DROP = 3
    #: Hand on what is held, then this piece.
    RELEASE = 4
    #: Hand the headers on, then show the held body and trailers to this filter, whose callbacks have not seen them.
    REPLAY = 5
    #: Nothing.
    IGNORE = 6


_S, _I, _A = State, Input, Action
_OPEN_VERDICTS = {
    (_I.DATA_BUFFER): (_S.STOP_SINGLE, _A.HOLD),
    (_I.DATA_WATERMARK): (_S.STOP_SINGLE, _A.HOLD),
    (_I.DATA_NO_BUFFER): (_S.STOP_SINGLE, _A.DROP),
    (_I.TRAILERS_STOP): (_S.STOP_SINGLE, _A.HOLD),
}

TRANSITIONS: dict[tuple[State, Input], tuple[State, Action]] = {
    # Headers come once, and only to a filter that has stopped nothing yet.
    (_S.CONTINUE, _I.HEADERS_CONTINUE): (_S.CONTINUE, _A.PASS),
    (_S.CONTINUE, _I.HEADERS_STOP): (_S.STOP_SINGLE, _A.HOLD),
    (_S.CONTINUE, _I.HEADERS_STOP_ALL_BUFFER): (_S.STOP_ALL_BUFFER, _A.HOLD),
    (_S.CONTINUE, _I.HEADERS_STOP_ALL_WATERMARK): (_S.STOP_ALL_WATERMARK, _A.HOLD),
    # While a filter lets things pass.
    (_S.CONTINUE, _I.DATA_ARRIVES): (_S.CONTINUE, _A.CALL),
    (_S.CONTINUE, _I.DATA_CONTINUE): (_S.CONTINUE, _A.PASS),
    (_S.CONTINUE, _I.TRAILERS_ARRIVE): (_S.CONTINUE, _A.CALL),
    (_S.CONTINUE, _I.TRAILERS_CONTINUE): (_S.CONTINUE, _A.PASS),
    **{(_S.CONTINUE, verdict): row for verdict, row in _OPEN_VERDICTS.items()},
    (_S.CONTINUE, _I.RESUME): (_S.CONTINUE, _A.IGNORE),
    # While a filter holds headers or body, its callbacks go on; "continue" from one of them releases all.
    (_S.STOP_SINGLE, _I.DATA_ARRIVES): (_S.STOP_SINGLE, _A.CALL),
    (_S.STOP_SINGLE, _I.DATA_CONTINUE): (_S.CONTINUE, _A.RELEASE),
    (_S.STOP_SINGLE, _I.TRAILERS_ARRIVE): (_S.STOP_SINGLE, _A.CALL),
    (_S.STOP_SINGLE, _I.TRAILERS_CONTINUE): (_S.CONTINUE, _A.RELEASE),
    **{(_S.STOP_SINGLE, verdict): row for verdict, row in _OPEN_VERDICTS.items()},
    (_S.STOP_SINGLE, _I.RESUME): (_S.CONTINUE, _A.RELEASE),
    # While all is stopped, no callback comes until the filter resumes.
    **{
        (state, event): (state, _A.HOLD)
        for state in (_S.STOP_ALL_BUFFER, _S.STOP_ALL_WATERMARK)
        for event in (_I.DATA_ARRIVES, _I.TRAILERS_ARRIVE)
    },
    (_S.STOP_ALL_BUFFER, _I.RESUME): (_S.CONTINUE, _A.REPLAY),
    (_S.STOP_ALL_WATERMARK, _I.RESUME): (_S.CONTINUE, _A.REPLAY),
    # After a local response or a reset nothing goes on, whatever a callback answers or asks.
    **{(state, _I.CLOSE): (_S.CLOSED, _A.IGNORE) for state in State},
    **{(_S.CLOSED, event): (_S.CLOSED, _A.IGNORE) for event in Input},
}

# Raw verdicts to inputs. CONTINUE_AND_END_STREAM falls into Envoy's default, which is Continue.
_HEADERS_VERDICTS: dict[int, Input] = {
    HeadersStatus.CONTINUE: Input.HEADERS_CONTINUE,
    HeadersStatus.STOP_ITERATION: Input.HEADERS_STOP,
    HeadersStatus.CONTINUE_AND_END_STREAM: Input.HEADERS_CONTINUE,
    HeadersStatus.STOP_ALL_ITERATION_AND_BUFFER: Input.HEADERS_STOP_ALL_BUFFER,
}
_DATA_VERDICTS: dict[int, Input] = {
    DataStatus.CONTINUE: Input.DATA_CONTINUE,
    DataStatus.STOP_ITERATION_AND_BUFFER: Input.DATA_BUFFER,
    DataStatus.STOP_ITERATION_AND_WATERMARK: Input.DATA_WATERMARK,
}


def headers_input(verdict: int, *, allow_stop_iteration: bool) -> Input:
    """What a headers callback's raw verdict means.

    cpp-host `convertVmCallResultToFilterHeadersStatus`: an unknown verdict stops all, and so does a plain PAUSE,
    unless the plugin may pause headers while its body callback goes on.
    """
    if verdict == HeadersStatus.STOP_ITERATION and not allow_stop_iteration:
        return Input.HEADERS_STOP_ALL_WATERMARK
    return _HEADERS_VERDICTS.get(verdict, Input.HEADERS_STOP_ALL_WATERMARK)


def data_input(verdict: int) -> Input:
    """What a body callback's raw verdict means; an unknown one stops without buffering."""
    return _DATA_VERDICTS.get(verdict, Input.DATA_NO_BUFFER)


def trailers_input(verdict: int) -> Input:
    """What a trailers callback's raw verdict means; an unknown one stops."""
    return Input.TRAILERS_CONTINUE if verdict == TrailersStatus.CONTINUE else Input.TRAILERS_STOP
