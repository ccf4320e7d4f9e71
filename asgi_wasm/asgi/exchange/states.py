"""How far a request and its response are: every legal step is a row of a table, and a pair without one cannot happen.

    `ClientState`     what the client has said of its request: `HEARD`
    `ResponseState`   how far a response is, where it begins (the app: `FROM_APP`) and where it ends (the client:
                      `TO_CLIENT`); between is the filter chain, with a table of its own (`host.streams.iteration`)
    `HandshakeState`  how far a WebSocket's handshake is: `HANDSHAKE`

Followed: the life of a request in RFC 9112, which begins with a head, has a body in pieces, and ends once.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TypeVar

_State = TypeVar("_State", bound=IntEnum)
_Event = TypeVar("_Event", bound=IntEnum)


class ClientState(IntEnum):
    """What the client has said of its request."""

    #: Its headers tell that there is no body; it has not said so itself.
    ANNOUNCED = 0
    #: More of the body may come.
    SENDING = 1
    #: It has said the last of it.
    ENDED = 2
    #: It has gone.
    GONE = 3


class Heard(IntEnum):
    """What a message of the client says."""

    #: A piece of the body that is no end.
    PIECE = 0
    #: Such a piece with nothing in it.
    EMPTY = 1
    #: The last piece, with anything in it or nothing.
    LAST = 2
    #: That it has gone.
    LEAVES = 3


class ResponseState(IntEnum):
    """How far a response is at one of its ends."""

    #: There is no head yet.
    IDLE = 0
    #: The head waits for the first verdict on the body, so that it can say the body's true length.
    HELD = 1
    #: The head is out; a body follows.
    BODY = 2
    #: The body is out; trailers follow.
    TRAILERS = 3
    #: The response has no body, but the app may send one: it is for nobody.
    UNHEARD_BODY = 4
    #: Nor are the trailers after it.
    UNHEARD_TRAILERS = 5
    #: All of it is out.
    DONE = 6
    #: It ended before its head was out.
    REFUSED = 7
    #: It ended in the middle.
    CUT = 8


class Part(IntEnum):
    """What comes of a response, or happens to it."""

    #: A head that waits for the body's first verdict.
    HELD_HEAD = 0
    HEAD = 1
    #: A head that is all there is, whatever its sender says.
    ONLY_HEAD = 2
    PIECE = 3
    #: The last piece, after which trailers follow.
    LAST_PIECE = 4
    TRAILERS = 5
    #: The end, be it the last piece or the last trailers.
    END = 6
    #: It is to end without having become whole.
    RESET = 7


class HandshakeState(IntEnum):
    """How far a WebSocket's handshake is."""

    #: Nobody has answered.
    OPEN = 0
    #: The app has accepted or closed, and plugins hold that.
    HELD = 1
    #: The app denies by a response, which is at some `ResponseState`.
    DENYING = 2
    #: Accepted, or closed by the app: from here on every message passes.
    SETTLED = 3
    #: Plugins have denied it.
    REFUSED = 4
    #: Plugins have ended a connection that had been accepted.
    ENDED = 5


class Answer(IntEnum):
    """What comes of a handshake."""

    #: The app accepts or closes.
    BY_APP = 0
    #: The app begins to deny by a response.
    DENIAL = 1
    #: What the app said has passed the plugins.
    PASSES = 2
    #: Plugins answer in its stead.
    BY_PLUGIN = 3
    #: The client has gone: there is nobody to answer.
    TO_NOBODY = 4


class _Table(dict[tuple[_State, _Event], _State]):
    """The state after each pair of a state and an event."""

    def __missing__(self, pair: tuple[_State, _Event]) -> _State:
        state, event = pair
        raise StateError(f"{event.name} cannot come in the state {state.name} of {type(state).__name__}")


class StateError(RuntimeError):
    """A step that no table has: a mistake of this package's, not of an app's or a plugin's."""


_C, _H, _R, _P = ClientState, Heard, ResponseState, Part

HEARD: Mapping[tuple[ClientState, Heard], ClientState] = _Table(
    {
        # Headers never make a body vanish that comes all the same. An empty piece is none (httpx's `ASGITransport`).
        (_C.ANNOUNCED, _H.PIECE): _C.SENDING,
        (_C.ANNOUNCED, _H.EMPTY): _C.ANNOUNCED,
        (_C.ANNOUNCED, _H.LAST): _C.ENDED,
        (_C.SENDING, _H.PIECE): _C.SENDING,
        (_C.SENDING, _H.EMPTY): _C.SENDING,
        (_C.SENDING, _H.LAST): _C.ENDED,
        # Servers differ in what they give to who listens on, before they tell that the client has gone.
        **{(_C.ENDED, event): _C.ENDED for event in (_H.PIECE, _H.EMPTY, _H.LAST)},
        **{(state, _H.LEAVES): _C.GONE for state in _C},
        **{(_C.GONE, event): _C.GONE for event in _H},
    }
)

# What an app may send. A pair without a row is for the server to judge, and is asked for by `get`.
FROM_APP: Mapping[tuple[ResponseState, Part], ResponseState] = _Table(
    {
        (_R.IDLE, _P.HEAD): _R.BODY,
        (_R.IDLE, _P.ONLY_HEAD): _R.UNHEARD_BODY,
        (_R.BODY, _P.PIECE): _R.BODY,
        (_R.BODY, _P.LAST_PIECE): _R.TRAILERS,
        (_R.BODY, _P.END): _R.DONE,
        (_R.TRAILERS, _P.TRAILERS): _R.TRAILERS,
        (_R.TRAILERS, _P.END): _R.DONE,
        (_R.UNHEARD_BODY, _P.PIECE): _R.UNHEARD_BODY,
        (_R.UNHEARD_BODY, _P.LAST_PIECE): _R.UNHEARD_TRAILERS,
        (_R.UNHEARD_BODY, _P.END): _R.DONE,
        (_R.UNHEARD_TRAILERS, _P.TRAILERS): _R.UNHEARD_TRAILERS,
        (_R.UNHEARD_TRAILERS, _P.END): _R.DONE,
    }
)

_W, _A = HandshakeState, Answer

HANDSHAKE: Mapping[tuple[HandshakeState, Answer], HandshakeState] = _Table(
    {
        (_W.OPEN, _A.BY_APP): _W.HELD,
        (_W.OPEN, _A.DENIAL): _W.DENYING,
        (_W.HELD, _A.PASSES): _W.SETTLED,
        (_W.HELD, _A.TO_NOBODY): _W.OPEN,
        **{(state, _A.BY_PLUGIN): _W.REFUSED for state in (_W.OPEN, _W.HELD, _W.DENYING)},
        (_W.SETTLED, _A.BY_PLUGIN): _W.ENDED,
    }
)
# Nothing that the app still says can reach the client.
ENDED_BY_PLUGINS = frozenset({_W.REFUSED, _W.ENDED})
# What the app has answered has gone out.
ANSWERED_BY_APP = frozenset({_W.SETTLED, _W.ENDED})

_WAITING = _R.IDLE, _R.HELD

TO_CLIENT: Mapping[tuple[ResponseState, Part], ResponseState] = _Table(
    {
        # Another answer may replace one whose head has not gone out.
        **{(state, _P.HELD_HEAD): _R.HELD for state in _WAITING},
        **{(state, _P.HEAD): _R.BODY for state in _WAITING},
        **{(state, _P.ONLY_HEAD): _R.DONE for state in _WAITING},
        (_R.BODY, _P.PIECE): _R.BODY,
        (_R.BODY, _P.LAST_PIECE): _R.TRAILERS,
        (_R.BODY, _P.END): _R.DONE,
        (_R.TRAILERS, _P.END): _R.DONE,
        **{(state, _P.RESET): _R.REFUSED for state in _WAITING},
        (_R.BODY, _P.RESET): _R.CUT,
        (_R.TRAILERS, _P.RESET): _R.CUT,
        # Nothing can be done about what has gone out whole, and a response ends once.
        **{(state, _P.RESET): state for state in (_R.DONE, _R.REFUSED, _R.CUT)},
    }
)
# The head is on its way to the client: nothing can replace it.
STARTED = frozenset({_R.BODY, _R.TRAILERS, _R.DONE, _R.CUT})
