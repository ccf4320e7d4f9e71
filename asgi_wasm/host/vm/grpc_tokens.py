"""What is left of each gRPC call and stream of a root context: the rules of one token, in one table.

Followed: Envoy `source/extensions/common/wasm/context.cc` (`grpcSend`, `grpcClose`, `grpcCancel`,
`onGrpcCloseWrapper`). Unlike there, a token is gone when its last callback is over, even if the plugin never closed it.
"""

from __future__ import annotations

from enum import Enum, auto

from asgi_wasm.host.abi import HostcallError, ProxyStatus


class GrpcState(Enum):
    """Of a token that is not gone; one that is gone has no state."""

    #: Both sides may send.
    OPEN = auto()
    #: The plugin has said that it sends no more. A unary call begins so.
    HALF_CLOSED = auto()
    #: The other side has ended it, and its last callback runs.
    CLOSED = auto()


class GrpcInput(Enum):
    """What can happen to a token."""

    SEND = auto()
    #: A last message.
    END = auto()
    #: The plugin half-closes.
    CLOSE = auto()
    CANCEL = auto()
    #: The other side's status came.
    REMOTE_CLOSE = auto()


# (state, input) -> the state afterwards, None for gone, and whether the other side is to be told. Messages after the
# end are dropped, and Envoy calls that OK too.
_TRANSITIONS: dict[tuple[GrpcState, GrpcInput], tuple[GrpcState | None, bool]] = {
    (GrpcState.OPEN, GrpcInput.SEND): (GrpcState.OPEN, True),
    (GrpcState.OPEN, GrpcInput.END): (GrpcState.HALF_CLOSED, True),
    (GrpcState.OPEN, GrpcInput.CLOSE): (GrpcState.HALF_CLOSED, True),
    (GrpcState.OPEN, GrpcInput.CANCEL): (None, True),
    (GrpcState.OPEN, GrpcInput.REMOTE_CLOSE): (GrpcState.CLOSED, False),
    (GrpcState.HALF_CLOSED, GrpcInput.SEND): (GrpcState.HALF_CLOSED, False),
    (GrpcState.HALF_CLOSED, GrpcInput.END): (GrpcState.HALF_CLOSED, False),
    (GrpcState.HALF_CLOSED, GrpcInput.CLOSE): (GrpcState.HALF_CLOSED, False),
    (GrpcState.HALF_CLOSED, GrpcInput.CANCEL): (None, True),
    (GrpcState.HALF_CLOSED, GrpcInput.REMOTE_CLOSE): (GrpcState.CLOSED, False),
    (GrpcState.CLOSED, GrpcInput.SEND): (GrpcState.CLOSED, False),
    (GrpcState.CLOSED, GrpcInput.END): (GrpcState.CLOSED, False),
    (GrpcState.CLOSED, GrpcInput.CLOSE): (None, False),
    (GrpcState.CLOSED, GrpcInput.CANCEL): (None, False),
}


# Bytes that a message takes beside its own, roughly.
_MESSAGE_COST = 128


def cost(message: bytes) -> int:
    """Bytes of memory that a message takes while it waits to be sent."""
    return len(message) + _MESSAGE_COST


class GrpcTokens:
    """The tokens of one root context. ``token in tokens`` says whether callbacks for it may still come."""

    def __init__(self) -> None:
        self._states: dict[int, GrpcState] = {}
        # The `cost` of all messages that it asked to send, and that no connection has taken yet.
        self.unsent = 0

    def __contains__(self, token: int) -> bool:
        return token in self._states

    def __len__(self) -> int:
        return len(self._states)

    def begin(self, token: int, state: GrpcState) -> None:
        """A call or stream was asked for."""
        self._states[token] = state

    def apply(self, token: int, what: GrpcInput) -> bool:
        """Go on to the next state: whether the other side is to be told.

        Raises `HostcallError` NOT_FOUND for a token that is gone or was never given.
        """
        state = self._states.get(token)
        if state is None:
            raise HostcallError(ProxyStatus.NOT_FOUND)
        after, told = _TRANSITIONS[state, what]
        if after is None:
            del self._states[token]
        else:
            self._states[token] = after
        return told

    def forget(self, token: int) -> None:
        """Its last callback is over."""
        self._states.pop(token, None)

    def clear(self) -> None:
        """The root context is gone, and everything with it."""
        self._states.clear()
